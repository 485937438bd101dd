"""The server's model as the agent's loop asks it: turn by turn through the same queue as every other request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from headwater.agent.asking import WorkerModel
from headwater.generate.request import Delta, Sequence
from headwater.generate.sampling import SamplingParams
from headwater.generate.worker import Unavailable
from headwater.serve.answering import Answers
from headwater.serve.service import Service
from headwater.serve.wire import usage

AGAIN = 0.05
"""Seconds after which a later turn asks a full queue once more."""


class ServedModel(WorkerModel):
    """Of one answer. What it calls can be read and fits its schema."""

    def __init__(self, service: Service, params: SamplingParams, adapter: str | None, *, parallel: bool) -> None:
        super().__init__(service.worker, params, adapter=adapter, parallel=parallel)
        self._service = service
        self.accepted = asyncio.Event()
        """Set when the first turn was taken: from then on the request is answered."""
        self._turns: list[Sequence] = []
        self._said = 0

    async def deltas(self, prompt: list[int], params: SamplingParams) -> AsyncGenerator[tuple[Delta, int | None]]:
        answers = await self._submitted(prompt, params)
        sequence = answers.tickets[0].sequence
        self._turns.append(sequence)
        self.accepted.set()
        try:
            async with aclosing(aiter(answers)) as deltas:
                async for _, delta in deltas:
                    self._said += len(delta.tokens)
                    yield delta, sequence.end_mark
        finally:
            answers.cancel()

    async def _submitted(self, prompt: list[int], params: SamplingParams) -> Answers:
        """The first turn is refused where the queue is full, later ones wait: their request was accepted. Raises
        `RequestError`, `InputError`, `Unavailable`."""
        while True:
            try:
                return await self._service.submit([(prompt, params)], self._adapter, "tools", len(prompt))
            except Unavailable as error:
                if error.kind != "full" or not self.accepted.is_set():
                    raise
            await asyncio.sleep(AGAIN)

    def usage(self) -> dict[str, Any]:
        """Of all turns; each reads the conversation as far as it has come."""
        return usage(sum(len(one.prompt) for one in self._turns), self._said,
                     sum(one.cached_tokens for one in self._turns))
