"""Answers that a grammar allows and no others: masks over the vocabulary by llguidance, and an end in time."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from headwater.errors import InputError, MissingExtraError
from headwater.generate.ending import Endings
from headwater.settings import Settings
from headwater.tokenizer.vocabulary import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher

KEPT = 128
"""Compiled grammars that are kept, the last used ones."""
MOST = 1 << 20
"""Characters of a grammar."""
Kind = Literal["json_schema", "json", "regex", "choice", "grammar"]


class Constraint(Settings):
    """What an answer must be."""

    kind: Kind
    """json_schema: a value that fits a JSON Schema; json: any JSON object; regex: a text that one matches from end to
    end; choice: one of several texts; grammar: one in llguidance's Lark dialect, where special tokens stand as they
    are named (<|observation|>)."""
    text: str = Field(default="", max_length=MOST)
    """The schema or the list of choices as JSON, the expression, or the grammar."""

    @model_validator(mode="after")
    def _readable(self) -> Constraint:
        if (self.kind == "json") != (not self.text):
            raise ValueError("json takes no text" if self.text else f"{self.kind} needs its text")
        if self.kind == "json_schema":
            _parsed(self.text, (dict, bool), "an object")
        if self.kind == "choice":
            choices = _parsed(self.text, list, "a list of texts")
            if not choices or not all(isinstance(choice, str) and choice for choice in choices):
                raise ValueError("the choices are not one or more texts that are not empty")
        return self


def _parsed(text: str, kind: type | tuple[type, ...], name: str) -> Any:
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, kind):
        raise ValueError(f"not {name} but {type(value).__name__}")
    return value


class Matcher:
    """Follows one answer. Its mask is made by another thread while the model is at work.

    Every answer ends as the grammar has it within its limit, whatever the model likes: near the limit a token that
    leaves no room for an ending gives way to the shortest ending that was found before it.
    """

    def __init__(self, state: LLMatcher, endings: Endings, pool: ThreadPoolExecutor, watched: int,
                 patient: bool) -> None:
        """watched: tokens before the limit from which on endings are looked for. patient: how (`Endings.shortest`)."""
        self._state, self._endings, self._pool, self._watched = state, endings, pool, watched
        self._patient = patient
        self._ending: list[int] | None = None
        self._look_ahead()

    def mask(self) -> Tensor:
        """Tokens that may come next, bits of bytes [V/8 or more]."""
        return torch.frombuffer(bytearray(self._mask.result()), dtype=torch.uint8)

    def accept(self, token: int, left: int) -> int | None:
        """Take a token that the mask allows, or another in its place. left: tokens that may come, this one included.
        The one that was taken; None where the answer has to end before it."""
        taken = self._with_an_end(token, left) if left <= self._watched else self._consume(token)
        self._look_ahead()
        return taken

    def _with_an_end(self, token: int, left: int) -> int | None:
        if self._ending is None:
            self._ending = self._shortest(left)
        known = self._ending
        self._consume(token)
        if known and token == known[0]:
            self._ending = known[1:]
            return token
        if known and self._endings.lead_out(self._state, known, left - 1):
            return token
        self._ending = self._shortest(left - 1)
        if self._ending is not None or known is None:
            return token
        _require(self._state.rollback(1), self._state)
        self._ending = known[1:]
        return self._consume(known[0]) if known else None

    def _shortest(self, limit: int) -> list[int] | None:
        return self._endings.shortest(self._state, limit, patient=self._patient)

    def _consume(self, token: int) -> int:
        _require(self._state.consume_token(token), self._state)
        return token

    def _look_ahead(self) -> None:
        self.complete: bool = self._state.is_accepting()
        """Whether the answer may end here."""
        self.over: bool = self._state.is_stopped()
        """Whether nothing but an end can follow."""
        self._mask: Future[bytes] = self._pool.submit(self._state.compute_bitmask)  # which has the state to itself


def _require(done: bool, state: LLMatcher) -> None:
    # A matcher never raises: in error it looks like one that has come to its end.
    if not done or state.is_error():
        raise RuntimeError(f"the grammar's matcher failed: {state.get_error() or 'a token that it does not allow'}")


class Constraints:
    """Grammars over the vocabulary of one model, compiled once. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        """vocabulary: tokens that can be produced."""
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._compiled: OrderedDict[Constraint, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="headwater-masks")

    @cached_property
    def _pieces(self) -> list[bytes]:
        """Of every token; a special one's is its name behind a byte that is in no text."""
        texts = [self._tokenizer.decode_bytes([token]) for token in range(self._vocabulary)]
        return [text if text and token not in self._tokenizer.marks else
                b"\xff" + self._tokenizer.piece(token).encode() for token, text in enumerate(texts)]

    @cached_property
    def _spelling(self) -> _Pieces:
        return _Pieces(self._pieces, self._tokenizer)

    @cached_property
    def _endings(self) -> Endings:
        return Endings(self._pieces, self._tokenizer.stop_ids, self._spelling)

    @cached_property
    def _table(self) -> Any:
        try:
            from llguidance import LLTokenizer, TokenizerWrapper
        except ImportError as error:
            raise MissingExtraError(f"constrained answers need llguidance ({error})",
                                    fix="pip install 'headwater[serve]'") from None
        stops = sorted(token for token in self._tokenizer.stop_ids if token < self._vocabulary)
        return LLTokenizer(TokenizerWrapper(self._spelling), eos_token=stops)

    def matcher(self, constraint: Constraint, limit: int) -> Matcher:
        """For an answer of at most `limit` tokens. Raises `InputError` for a grammar that cannot be held to, and where
        no answer is so short."""
        with self._lock:
            state = self._fresh(constraint)
            patient = (first := self._endings.shortest(state, limit)) is None
            first = self._endings.shortest(state, limit, patient=True) if patient else first
        if first is None:
            raise InputError(f"no answer of at most {limit} tokens that fits the {constraint.kind} was found",
                             fix="allow more tokens, or ask for less")
        return Matcher(state, self._endings, self._pool, 64 + 8 * len(first) + len(constraint.text) // 2,
                       patient)

    def _fresh(self, constraint: Constraint) -> LLMatcher:
        found = self._compiled.get(constraint)
        if found is None:
            found = self._compiled[constraint] = self._compile(constraint)
            while len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(constraint)
        return found.deep_copy()

    def _compile(self, constraint: Constraint) -> LLMatcher:
        table = self._table
        from llguidance import LLMatcher

        state = LLMatcher(table, _grammar(constraint), log_level=0)
        problem = state.get_error() if state.is_error() else "; ".join(state.get_grammar_warnings())
        if problem:
            raise InputError(f"the {constraint.kind} cannot be held to: {' '.join(problem.split())}",
                             fix="leave out what is named, or say it otherwise")
        return state


class _Pieces:
    """A tokenizer as llguidance takes it."""

    def __init__(self, pieces: list[bytes], tokenizer: Tokenizer) -> None:
        self.tokens, self.eos_token_id, self.bos_token_id = pieces, tokenizer.eos, tokenizer.bos
        self.special_token_ids = [token for token, piece in enumerate(pieces) if piece.startswith(b"\xff")]
        self._ids: dict[bytes, int] = {}
        for token, piece in enumerate(pieces):
            self._ids.setdefault(piece, token)
        self._longest = max(map(len, pieces))

    def __call__(self, text: bytes) -> list[int]:
        """The longest piece at every place: exact bytes, where a family's own encoding may put a space before them."""
        found, at = list[int](), 0
        while at < len(text):
            size = next((size for size in range(min(self._longest, len(text) - at), 0, -1)
                         if text[at : at + size] in self._ids), 0)
            if not size:
                return found  # what no token spells
            found.append(self._ids[text[at : at + size]])
            at += size
        return found


def _grammar(constraint: Constraint) -> str:
    from llguidance import LLMatcher

    # White space between values has no bound: a model may write it until its tokens are used up.
    tight: Any = {"whitespace_flexible": False}
    if constraint.kind == "json_schema":
        return LLMatcher.grammar_from_json_schema(constraint.text, overrides=tight)
    if constraint.kind == "json":
        return LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=tight)
    if constraint.kind == "regex":
        return LLMatcher.grammar_from_regex(constraint.text)
    if constraint.kind == "choice":
        return LLMatcher.grammar_from_lark("start: " + " | ".join(
            json.dumps(choice, ensure_ascii=False) for choice in json.loads(constraint.text)))
    return LLMatcher.grammar_from_lark(constraint.text)


_FORBIDDEN = torch.where((torch.arange(256)[:, None] >> torch.arange(8) & 1) == 1, 0.0, float("-inf"))
"""What is added for every bit of a mask's byte; ten times as quick as filling by a mask of its own."""


def masked(logits: Tensor, masks: Mapping[int, Tensor]) -> Tensor:
    """A copy of logits [B,V] in which what the masks (bits, by row) leave out is at minus infinity."""
    if not masks:
        return logits
    logits = logits.clone()
    for row, mask in masks.items():
        added = _FORBIDDEN.index_select(0, mask.int()).view(-1)[: logits.shape[1]]
        logits[row] += added.to(logits.device)
    return logits
