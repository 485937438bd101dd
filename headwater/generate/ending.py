"""The shortest way to end what a grammar has begun."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llguidance import LLMatcher

IN_TEXT = b'"\'`'
"""What ends a text, the likeliest first."""
OUTSIDE = b'}]),:"'
"""What ends a value or comes to the next one soonest."""


class Endings:
    """Looked for step by step, always the likeliest to lead out: of JSON and what looks like it the shortest or nearly
    so, of other languages perhaps none."""

    def __init__(self, pieces: Sequence[bytes], stops: Collection[int], spelled: Callable[[bytes], list[int]]) -> None:
        """pieces: bytes of every token; stops: tokens that end an answer; spelled: a text's tokens."""
        self._spelled = spelled
        bytes_of = {piece: token for token, piece in reversed(list(enumerate(pieces))) if len(piece) == 1}
        self._stops = [token for token in sorted(stops) if token < len(pieces)]
        self._in_text = [bytes_of[piece] for piece in _each(IN_TEXT) if piece in bytes_of]
        self._outside = [bytes_of[piece] for piece in _each(OUTSIDE) if piece in bytes_of]
        self._any = [bytes_of[piece] for piece in sorted(bytes_of)]
        self._probe = [bytes_of[piece] for piece in (b"~", b"^") if piece in bytes_of]

    def shortest(self, state: LLMatcher, limit: int, *, patient: bool = False) -> list[int] | None:
        """Tokens after which the answer may end, at most `limit`; None where none were found. patient: looks for what
        ends it everywhere, and tries one thing after the other, as languages need that do not close as JSON does."""
        found: list[int] = []
        if state.is_accepting():
            return found
        state = state.deep_copy()
        while len(found) < limit:
            # What is forced is one run of bytes, up to where a special token has to come.
            forced, _, _ = state.compute_ff_bytes().partition(b"\xff")
            tokens = self._spelled(forced) or self._next(state, found if patient else None)
            for token in tokens:
                if not state.consume_token(token):
                    return None
                found.append(token)
                if state.is_accepting():
                    return found if len(found) <= limit else None
            if not tokens:
                return None
        return None

    def lead_out(self, state: LLMatcher, tokens: list[int], limit: int) -> bool:
        """Whether an answer can end with these, too: so it is while a text goes on that they close."""
        return len(tokens) <= limit and any(
            state.validate_tokens([*tokens, stop]) == len(tokens) + 1 for stop in self._stops[:1])

    def _next(self, state: LLMatcher, tried: list[int] | None) -> list[int]:
        """One token, or none. tried: of these, the least often; else what closes something."""
        mask = state.compute_bitmask()

        def allowed(token: int) -> bool:
            return bool(mask[token >> 3] >> (token & 7) & 1)

        if tried is not None:
            some = [*filter(allowed, self._stops)] or [*filter(allowed, self._any)]
            ends = (token for token in some if self.lead_out(state, [token], 1))
            if some:
                return [next(ends, None) or min(some, key=tried.count)]
        in_text = any(map(allowed, self._probe))  # characters that stand in a text alone
        first = (*self._in_text, *self._outside) if in_text else self._outside
        for token in (*self._stops, *first, *self._any):
            if allowed(token):
                return [token]
        at = next((at for at, bits in enumerate(mask) if bits), None)
        return [] if at is None else [8 * at + (mask[at] & -mask[at]).bit_length() - 1]


def _each(text: bytes) -> list[bytes]:
    return [text[at : at + 1] for at in range(len(text))]
