"""A conversation with memory: the rounds so far, kept within the model's context."""

from __future__ import annotations

from collections.abc import Generator

from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.request import Delta
from headwater.generate.sampling import SamplingParams
from headwater.tokenizer.chat import Message


class ChatSession:
    """Alternating user and assistant messages after an optional system prompt.

    A history that leaves less than `reserve` tokens for the answer loses whole rounds from the left, never the
    system prompt and never half a round.
    """

    def __init__(self, engine: Engine, params: SamplingParams, *, system: str = "", reserve: int | None = None,
                 adapter: str | None = None) -> None:
        """reserve: tokens kept free for the answer, a quarter of the context at most when None. adapter: of the
        engine's, that answers; None: the model itself."""
        self.adapter = adapter
        self.engine, self.params, self.system = engine, params.model_copy(update={"trim_start": True}), system
        self.reserve = reserve or min(params.max_tokens, max(1, engine.max_length // 4))
        self.rounds: list[tuple[str, str]] = []

    def reset(self) -> None:
        """Forget the rounds; the system prompt stays."""
        self.rounds.clear()

    def reply(self, text: str) -> Generator[Delta]:
        """The answer as it comes; the round is remembered, as far as it got, when the iterator ends or is closed.

        Raises `InputError` when the message alone does not fit.
        """
        prompt = self._prompt(text)
        answer = ""
        try:
            for delta in self.engine.stream(prompt, self.params, self.adapter):
                answer += delta.text
                yield delta
        finally:
            self.rounds.append((text, answer))

    def _prompt(self, text: str) -> list[int]:
        kept = list(self.rounds)
        while True:
            ids = self.engine.tokenizer.chat.render(self._messages(kept, text), add_generation_prompt=True).ids
            if len(ids) + self.reserve <= self.engine.max_length:
                self.rounds = kept
                return ids
            if not kept:
                raise InputError(f"the message has {len(ids)} tokens with its system prompt; the context holds "
                                 f"{self.engine.max_length}, {self.reserve} of them for the answer",
                                 fix="shorten the message or the system prompt")
            kept = kept[1:]

    def _messages(self, rounds: list[tuple[str, str]], text: str) -> list[Message]:
        messages: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for question, answer in rounds:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return [*messages, {"role": "user", "content": text}]
