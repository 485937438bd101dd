"""What an answer has to look like: a value that requests carry, and its grammar, compiled once by llguidance."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from headwater.errors import InputError
from headwater.generate.ending import LONGEST, Endings
from headwater.generate.matcher import Matcher
from headwater.generate.token_table import TokenTable, library
from headwater.settings import Settings
from headwater.tokenizer.vocabulary import Tokenizer

KEPT = 128
"""Compiled grammars that are kept, the last used ones."""
MOST = 1 << 20
"""Characters of a grammar."""
LIKELY = 16
"""Of choices, the shortest, that are tried first."""
LEXER_STATES = 50_000
"""That a grammar may make, of one to two kB."""
# Beyond the schema's own options: white space between values would have no bound, and nothing is approximate.
_TIGHT: Any = {"whitespace_flexible": False, "lenient": False, "coerce_one_of": False}
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)+"')
_ESCAPES = re.compile(r'"(?:[^\\]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')
"""Literals that JSON can read."""
Kind = Literal["json_schema", "json", "regex", "choice", "grammar"]


class Constraint(Settings):
    """What an answer must be."""

    kind: Kind
    """json_schema: a value that fits a JSON Schema, with properties in its order; json: any JSON object; regex: a text
    that one matches from end to end; choice: one of several texts; grammar: one in llguidance's Lark dialect, where
    special tokens stand as they are named (<|observation|>)."""
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


class _Grammar(NamedTuple):
    """A constraint for one vocabulary."""

    native: Any
    """An `llguidance.LLMatcher` before the first token; its copies share what it found out about the vocabulary."""
    ending: list[int]
    """Tokens of the shortest answer that is known, of single bytes."""
    words: list[str]
    """What a Lark grammar holds literally."""


class Constraints:
    """Grammars over the vocabulary of one model, compiled once. Safe to use from several threads: compiling, which may
    take a second, lets the others go on."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        """vocabulary: tokens that can be produced."""
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._compiled: OrderedDict[Constraint, _Grammar] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def table(self) -> TokenTable:
        return TokenTable(self._tokenizer, self._vocabulary)

    @cached_property
    def endings(self) -> Endings:
        return Endings(self.table)

    def matcher(self, constraint: Constraint, limit: int) -> Matcher:
        """For an answer of at most `limit` tokens. Raises `InputError` for a grammar that cannot be held to, and where
        no answer is so short, and `MissingExtraError`."""
        with self._lock:
            found = self._compiled.get(constraint)
        grammar = found or self._first(constraint)
        ending = self.endings.within(grammar.native, grammar.ending, limit)
        if ending is None and (
                ending := self.endings.search(grammar.native, limit, grammar.words)) is not None:
            grammar = grammar._replace(ending=ending)
        with self._lock:
            self._compiled[constraint] = grammar
            self._compiled.move_to_end(constraint)
            while len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        if ending is None:
            needed = len(self.endings.joined(grammar.ending))
            raise InputError(f"no answer of at most {limit} tokens that fits the {constraint.kind} was found; "
                             f"one takes {needed}", fix="allow more tokens, or ask for less")
        return Matcher(grammar.native, ending, self.endings, self.table, self._tokenizer.stop_ids, grammar.words)

    def _first(self, constraint: Constraint) -> _Grammar:
        native = self._compile(constraint)
        words = _words(constraint)
        ending = self.endings.first(native, _likely(constraint)) or self.endings.search(native, LONGEST, words)
        if ending is None:
            raise InputError(f"no answer that fits the {constraint.kind} was found: a short one does not, or it is too "
                             "large to look through", fix="give one that a short answer fits, or a smaller one")
        return _Grammar(native, ending, words)

    def _compile(self, constraint: Constraint) -> Any:
        llguidance = library()
        limits = llguidance.LLParserLimits(max_lexer_states=LEXER_STATES, verbose_errors=False)
        try:
            native = llguidance.LLMatcher(self.table.native, _grammar(constraint), log_level=0, limits=limits)
            problem = native.get_error() if native.is_error() else "; ".join(native.get_grammar_warnings())
        except (ValueError, RecursionError) as error:
            problem = str(error)
        if problem:
            raise InputError(f"the {constraint.kind} cannot be held to: {' '.join(problem.split())}",
                             fix="leave out what is named, or say it otherwise")
        return native


def _words(constraint: Constraint) -> list[str]:
    if constraint.kind != "grammar":
        return []
    found = dict.fromkeys(_LITERAL.findall(constraint.text))
    return [json.loads(word, strict=False) for word in found if _ESCAPES.fullmatch(word)]


def _likely(constraint: Constraint) -> list[bytes]:
    """Short answers that may fit, which are tried before any are looked for."""
    if constraint.kind == "choice":
        return sorted((choice.encode() for choice in json.loads(constraint.text)), key=len)[:LIKELY]
    return [b"{}", b"[]"] if constraint.kind in ("json", "json_schema") else []


def _grammar(constraint: Constraint) -> str:
    """As llguidance reads it."""
    make = library().LLMatcher
    if constraint.kind == "json_schema":
        schema = json.loads(constraint.text)
        if schema is False:
            raise ValueError("no value fits the schema false")
        return str(make.grammar_from_json_schema({} if schema is True else constraint.text, overrides=_TIGHT))
    if constraint.kind == "json":
        return str(make.grammar_from_json_schema({"type": "object"}, overrides=_TIGHT))
    if constraint.kind == "regex":
        return str(make.grammar_from_regex(constraint.text))
    if constraint.kind == "choice":
        choices = (json.dumps(choice, ensure_ascii=False) for choice in json.loads(constraint.text))
        return str(make.grammar_from_lark(f"start: {' | '.join(choices)}"))
    return str(make.grammar_from_lark(constraint.text))
