"""The addresses of the API."""

from __future__ import annotations

from starlette.routing import Route

from headwater.serve.chat import Chat
from headwater.serve.completions import Completions
from headwater.serve.embeddings import Embeddings
from headwater.serve.pages import Pages
from headwater.serve.service import Service
from headwater.serve.tokenization import Tokenization


def api_routes(service: Service) -> list[Route]:
    """All but the chat page's."""
    pages, tokenization = Pages(service), Tokenization(service)
    read = [("/v1/models", pages.models), ("/v1/models/{model:path}", pages.one_model), ("/health", pages.health),
            ("/health/live", pages.live), ("/metrics", pages.metrics)]
    asked = [("/v1/chat/completions", Chat(service).answer), ("/v1/completions", Completions(service).answer),
             ("/v1/embeddings", Embeddings(service).answer), ("/tokenize", tokenization.tokenize),
             ("/detokenize", tokenization.detokenize)]
    return [*(Route(path, endpoint) for path, endpoint in read),
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in asked)]
