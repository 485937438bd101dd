"""POST /v1/embeddings: texts as vectors.

A text's vector is the mean of the model's last normed hidden states over its own tokens, without what its family puts
around a text, of length 1. A decoder's last token alone says what comes next and not what the text is about. Our models
are not tuned for this: it finds like texts, and no more is promised.
"""

from __future__ import annotations

import base64
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from torch import Tensor

from headwater.generate.engine import Engine
from headwater.serve.answering import unless_left
from headwater.serve.errors import RequestError
from headwater.serve.service import Service
from headwater.serve.wire import Asked, Several, each


class EmbeddingRequest(Asked):
    examples: ClassVar = ({"input": "The Velna is 482 km long."}, {"input": ["Rivers", "Lakes"],
                                                                  "encoding_format": "base64"})

    model: str
    input: Several
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)


class Embeddings:
    """The endpoint over a service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def answer(self, request: Request) -> Response:
        service = self.service
        asked = EmbeddingRequest.parse(await service.body(request))
        self._check(asked)
        texts = [self._ids(one) for one in each(asked.input, "input")]
        vectors = await unless_left(self._vectors(texts), request.receive, service.limits.seconds)
        data = [{"object": "embedding", "index": index, "embedding": _written(vector, asked)}
                for index, vector in enumerate(vectors)]
        read = sum(len(ids) for ids, _ in texts)
        service.metrics.prompt.inc(read)
        return JSONResponse({"object": "list", "model": asked.model, "data": data,
                             "usage": {"prompt_tokens": read, "total_tokens": read}})

    def _check(self, asked: EmbeddingRequest) -> None:
        service, size = self.service, self.service.engine.model.config.hidden_size
        if service.require(asked.model) is not None:
            raise RequestError("embeddings are the model's own: adapters have none", param="model",
                               code="unsupported_parameter")
        if asked.dimensions not in (None, size):
            raise RequestError(f"this model's vectors have {size} dimensions and cannot be shortened",
                               param="dimensions", code="unsupported_parameter")
        number = len(each(asked.input, "input"))
        if number > service.limits.prompts:
            raise RequestError(f"at most {service.limits.prompts} texts in one request, not {number}", param="input",
                               code="invalid_value")

    def _ids(self, text: str | list[int]) -> tuple[list[int], slice]:
        """What is read, and where the text's own tokens stand in it. Raises `InputError`."""
        engine = self.service.engine
        frame = engine.tokenizer.frame if isinstance(text, str) else None
        own = engine.tokenizer.encode(text) if isinstance(text, str) else text
        before, after = (frame.before, frame.after) if frame else ((), ())
        ids = [*before, *own, *after]
        engine.check(ids)
        return ids, slice(len(before), len(before) + len(own))

    async def _vectors(self, texts: list[tuple[list[int], slice]]) -> list[Tensor]:
        """One after the other, so that answers under way go on between them."""
        ask = self.service.worker.ask
        return [await ask(lambda engine, ids=ids, own=own: embedded(engine, ids, own))  # type: ignore[misc]
                for ids, own in texts]


@torch.inference_mode()
def embedded(engine: Engine, ids: list[int], own: slice) -> Tensor:
    """float32 [D], of length 1: the mean of the hidden states of the tokens `own` among those that are read."""
    states = engine.model.hidden(torch.tensor([ids], device=engine.model.device))[0, own]
    return torch.nn.functional.normalize(states.float().mean(0), dim=0).cpu()


def _written(vector: Tensor, asked: EmbeddingRequest) -> Any:
    """A list, or the bytes of little-endian float32 in base64, which OpenAI's client asks for."""
    if asked.encoding_format == "base64":
        return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()
    return vector.tolist()
