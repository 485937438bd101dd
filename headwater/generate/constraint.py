"""What an answer has to look like: a value that requests carry, and its grammars, compiled once by llguidance."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any, NamedTuple, Self

from pydantic import Field, model_validator

from headwater.errors import InputError
from headwater.generate.ending import LONGEST, Endings
from headwater.generate.token_table import TokenTable, library
from headwater.settings import Settings
from headwater.tokenizer.vocabulary import Tokenizer

GRAMMARS = 64
"""Compiled ones that are kept, the latest used."""
LEXER_STATES = 50_000
"""That a grammar may make, of one to two kB."""
# Beyond the schema's own options: compact, since white space may go on for ever, and exact.
_JSON = {"whitespace_flexible": False, "lenient": False, "coerce_one_of": False}


class Constraint(Settings):
    """What the answer has to be, exactly one of these. It is valid whatever the model's weights are."""

    json_schema: dict[str, Any] | bool | None = None
    """A JSON value of this schema, without white space between its parts and with properties in the schema's order.
    A keyword that cannot be guaranteed is refused."""
    json_object: bool = False
    """Any JSON object."""
    regex: str | None = None
    """A text that this matches as a whole, in the syntax of Rust's `regex`, without look-around."""
    choice: tuple[str, ...] | None = Field(default=None, min_length=1)
    """One of these texts."""
    lark: str | None = None
    """A text of this grammar, in llguidance's form of Lark; special tokens are `<|name|>` or `<[id]>`."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = self._given()
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(type(self).model_fields)}, not {' and '.join(given) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        """Of the fields the one that was given."""
        return self._given()[0]

    def _given(self) -> list[str]:
        return [name for name, value in self if value is not None and (value is not False or name == "json_schema")]


class Grammar(NamedTuple):
    """A constraint for one vocabulary."""

    native: Any
    """An `llguidance.LLMatcher` before the first token; its copies share what it found out about the vocabulary."""
    ending: list[int]
    """Ids of the shortest answer that is known, of single bytes."""


class Grammars:
    """For one tokenizer, the ids below `size`. Its table of pieces is built when the first is asked for. Any thread may
    ask; compiling lets others run meanwhile."""

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self._tokenizer, self._size = tokenizer, size
        self._compiled: OrderedDict[str, Grammar] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def table(self) -> TokenTable:
        return TokenTable(self._tokenizer, self._size)

    @cached_property
    def endings(self) -> Endings:
        return Endings(self.table)

    def check(self, constraint: Constraint, room: int) -> Grammar:
        """With an ending of at most `room` tokens. Raises `InputError` for a constraint that cannot be kept, or not in
        an answer of that length, and `MissingExtraError`."""
        key = constraint.model_dump_json()  # of a schema the order counts, which equality does not see
        with self._lock:
            grammar = self._compiled.get(key)
        grammar = grammar or self._made(constraint)
        fitting = self.endings.within(grammar.native, grammar.ending, room)
        if fitting is None and (shorter := self.endings.search(grammar.native, room)) is not None:
            grammar, fitting = grammar._replace(ending=shorter), shorter
        with self._lock:
            self._compiled[key] = grammar
            self._compiled.move_to_end(key)
            if len(self._compiled) > GRAMMARS:
                self._compiled.popitem(last=False)
        if fitting is None:
            needed = len(self.endings.joined(grammar.ending))
            raise InputError(f"the answer has room for {room} tokens, and the shortest that was found to fit takes "
                             f"{needed}", where=constraint.kind, fix="raise max_tokens, or ask for less")
        return grammar._replace(ending=fitting)

    def _made(self, constraint: Constraint) -> Grammar:
        native = _compile(constraint, self.table)
        ending = self.endings.search(native, LONGEST)
        if ending is None:
            raise InputError("no text has been found that fits", where=constraint.kind,
                             fix="give a constraint that a short text fits")
        return Grammar(native, ending)


def _compile(constraint: Constraint, table: TokenTable) -> Any:
    llguidance = library()
    limits = llguidance.LLParserLimits(max_lexer_states=LEXER_STATES, verbose_errors=False)
    try:
        native = llguidance.LLMatcher(table.native, _source(constraint), log_level=0, limits=limits)
    except (ValueError, RecursionError) as error:
        raise _refused(constraint, str(error)) from None
    if native.is_error():
        raise _refused(constraint, native.get_error())
    if constraint.kind.startswith("json") and (warnings := native.get_grammar_warnings()):
        raise _refused(constraint, "; ".join(warnings))
    return native


def _refused(constraint: Constraint, why: str) -> InputError:
    lines = [line.strip() for line in why.splitlines() if line.strip()]
    return InputError(f"cannot be guaranteed: {' | '.join(lines)}", where=constraint.kind,
                      fix="leave out what is named, or say it in another way")


def _source(constraint: Constraint) -> str:
    """As llguidance reads it."""
    make = library().LLMatcher
    if constraint.regex is not None:
        return str(make.grammar_from_regex(constraint.regex))
    if constraint.lark is not None:
        return str(make.grammar_from_lark(constraint.lark))
    if constraint.choice is not None:
        texts = (json.dumps(text, ensure_ascii=False) for text in constraint.choice)
        return str(make.grammar_from_lark(f"start: {' | '.join(texts)}"))
    if constraint.json_schema is False:
        raise ValueError("the schema false, which no value fits")
    schema = {"type": "object"} if constraint.json_object else constraint.json_schema
    return str(make.grammar_from_json_schema({} if schema is True else schema, overrides=_JSON))
