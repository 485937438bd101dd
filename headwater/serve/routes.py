"""The addresses of the API."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headwater.serve import replies
from headwater.serve.chat import Chat
from headwater.serve.chat_examples import chats_with
from headwater.serve.chat_request import ChatRequest
from headwater.serve.completion_request import CompletionRequest
from headwater.serve.completions import Completions
from headwater.serve.embeddings import EmbeddingRequest, Embeddings
from headwater.serve.openapi import Endpoint, document
from headwater.serve.pages import Pages
from headwater.serve.service import Service
from headwater.serve.tokenization import DetokenizeRequest, Tokenization, TokenizeRequest


def api_routes(service: Service) -> list[Route]:
    """All but the chat page's."""
    async def told(request: Request) -> Response:
        return JSONResponse(document(endpoints, service.names, list(service.tools.kinds)))

    endpoints = [*_endpoints(service), Endpoint("/openapi.json", told, "This document.", replies.Document)]
    return [Route(one.path, one.answer, methods=[one.method.upper()]) for one in endpoints]


def _endpoints(service: Service) -> list[Endpoint]:
    pages, tokenization = Pages(service), Tokenization(service)
    return [
        Endpoint("/v1/models", pages.models, "The model and its adapters.", replies.CardList),
        Endpoint("/v1/models/{model:path}", pages.one_model, "One of them.", replies.Card),
        Endpoint("/v1/chat/completions", Chat(service).answer, "Answers a chat.", replies.ChatCompletion, ChatRequest,
                 streams=True, examples=chats_with(list(service.tools.kinds))),
        Endpoint("/v1/completions", Completions(service).answer, "Continues texts.", replies.Completion,
                 CompletionRequest, streams=True),
        Endpoint("/v1/embeddings", Embeddings(service).answer, "Texts as vectors.", replies.EmbeddingList,
                 EmbeddingRequest),
        Endpoint("/tokenize", tokenization.tokenize, "A text's or a chat's tokens.", replies.Tokens, TokenizeRequest),
        Endpoint("/detokenize", tokenization.detokenize, "The text of tokens.", replies.Text, DetokenizeRequest),
        Endpoint("/tools.json", pages.tools, "The server's own tools.", replies.OfferedTools),
        Endpoint("/health", pages.health, "Whether requests are accepted.", replies.Ready),
        Endpoint("/health/live", pages.live, "Whether the engine lives.", replies.Live),
        Endpoint("/metrics", pages.metrics, "Counts, for Prometheus.", None),
    ]
