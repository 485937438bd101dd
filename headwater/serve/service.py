"""What all endpoints share: the worker, the names it answers to, the limits of a request, and what is counted."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.generate.worker import Unavailable, Worker
from headwater.serve.answering import Answers
from headwater.serve.errors import RequestError
from headwater.serve.limits import Limits
from headwater.serve.metrics import Metrics
from headwater.serve.server_tools import ServerTools

BODY_SECONDS = 60.0
"""In which a request's body has to come."""


@dataclass
class Service:
    """`defaults` is the sampling of a request that asks for none; `examples` are questions the page proposes; `tools`
    are the server's own."""

    worker: Worker
    model: str
    defaults: SamplingParams = field(default_factory=SamplingParams)
    examples: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    tools: ServerTools = field(default_factory=ServerTools)
    started: int = field(default_factory=lambda: int(time.time()))

    closing: bool = False

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.worker)
        self.metrics.watch_sessions(lambda: self.tools.running)

    @property
    def engine(self) -> Engine:
        return self.worker.engine

    @property
    def names(self) -> list[str]:
        """The model and its adapters."""
        return [self.model, *self.engine.adapters.names]

    @property
    def accepting(self) -> bool:
        return self.worker.accepting and not self.closing

    @property
    def idle(self) -> bool:
        """Whether no answer is under way."""
        return self.worker.idle and not self.tools.opened

    def leave(self) -> None:
        """Refuse what comes and finish what was accepted; the worker takes further turns of answers with tools as long
        as there are any. To be called again and again."""
        self.closing = True
        if not self.tools.opened:
            self.worker.leave()

    async def cut(self) -> None:
        """End what is left, each answer with what it has."""
        for one in list(self.tools.opened):
            one.cut()
        await asyncio.to_thread(self.worker.close)

    def require(self, model: str) -> str | None:
        """The adapter that a request names, None for the model itself. Raises `RequestError`."""
        if model not in self.names:
            known = ", ".join(f"'{name}'" for name in self.names)
            raise RequestError(f"the model '{model}' does not exist; this server has {known}", status=404,
                               param="model", code="model_not_found")
        return None if model == self.model else model

    async def body(self, request: Request) -> bytes:
        """Raises `RequestError` for one that is too large or too slow, `Unavailable` and `ClientDisconnect`."""
        if self.closing:
            raise Unavailable("closed", "the server is shutting down")
        body = bytearray()
        seconds = min(self.limits.seconds or BODY_SECONDS, BODY_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > self.limits.body:
                        raise RequestError(f"the body is larger than {self.limits.body} bytes", status=413,
                                           code="body_too_large")
        except TimeoutError:
            raise RequestError(f"the body took longer than {seconds:g} seconds to come", status=408,
                               code="timeout") from None
        return bytes(body)

    async def submit(self, prompts: Sequence[tuple[list[int], SamplingParams]], adapter: str | None,
                     guide: str | None, read: int) -> Answers:
        """Hand over all of them or none. guide: the parameter that says what the answers must be. read: tokens of
        the prompts, as they are told in `usage`. Raises `RequestError`, `InputError`, `Unavailable`."""
        prepare = self.engine.prepare
        if not any(params.constraint for _, params in prompts):
            sequences = [prepare(prompt, own, adapter) for prompt, own in prompts]
        else:  # a grammar may take a while to compile
            try:
                sequences = await asyncio.to_thread(lambda: [prepare(prompt, own, adapter) for prompt, own in prompts])
            except InputError as error:
                raise RequestError(str(error), param=guide, code="invalid_value") from None
        tickets = self.worker.submit_all(sequences) if sequences else []
        return Answers(tickets, self.metrics.watch(tickets, read), self.limits)

    def require_choices(self, number: int, prompts: int = 1) -> None:
        """Raises `RequestError` for more than the limits."""
        if number > self.limits.choices:
            raise RequestError(f"'n' is at most {self.limits.choices} here", param="n", code="invalid_value")
        if number * prompts > self.limits.prompts:
            raise RequestError(f"at most {self.limits.prompts} prompts in one request, each counted 'n' times, not "
                               f"{number * prompts}", param="prompt", code="invalid_value")

    def head(self, kind: str, model: str) -> dict[str, Any]:
        """What every answer begins with."""
        return {"id": f"{kind}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
