"""What a model is asked while it is aligned: files of prompts, with what is known of a good answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headwater.align.published import prompt_rows
from headwater.dialogues.forms import HARMLESS
from headwater.dialogues.reading import language_of
from headwater.dialogues.rows import BadRow, Row
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import nearest_name
from headwater.tokenizer import Message, Tokenizer

KEYS = ("messages", "language", "unsafe", "expected", "domain", "attack", "careless")
_ROLES = ("system", "user", "assistant")


class Prompt(NamedTuple):
    """A dialogue that waits for an answer."""

    messages: list[Message]
    ids: list[int]
    """Rendered, up to where the answer begins."""
    language: str
    unsafe: bool = False
    """Whether it asks for what should be declined."""
    expected: str = ""
    """What a right answer says, where that is known."""
    careless: str = ""
    """What an unsafe answer would say, where that is known."""
    domain: str = ""
    attack: str = ""
    """The kind of attack, of a prompt that is one."""
    place: str = ""
    """File and line, for messages."""


def read_prompts(paths: list[Path], tokenizer: Tokenizer, longest: int) -> list[Prompt]:
    """Prompts of JSON files, or of lists as they are published. Those of more than `longest` tokens are left out, and
    counted aloud.

    Raises `InputError` with file and line for a row that is no prompt, and where nothing is left.
    """
    found = []
    for path in paths:
        own = [prompt_of(row, tokenizer) for row in prompt_rows(path)]
        fitting = [one for one in own if len(one.ids) <= longest]
        more = f", {len(own) - len(fitting):,} left out: longer than {longest:,} tokens" if len(fitting) < len(own) \
            else ""
        say(f"{path}: {len(own):,} prompts, {sum(one.unsafe for one in own):,} of them unsafe{more}")
        found += fitting
    if not found:
        raise InputError("no prompts", where=", ".join(map(str, paths)),
                         fix='give rows {"messages": [{"role": "user", "content": ...}]}, and room for an answer')
    return found


def known(row: Row) -> tuple[Mapping[str, Any], list[Message]]:
    """What a row says, and its messages. Raises `InputError` with file and line for a row that is no prompt."""
    try:
        values = _checked(row.value)
        return values, list(_messages(values["messages"]))
    except BadRow as error:
        turn = f", turn {error.turn}" if error.turn is not None else ""
        raise InputError(error.reason, where=f"{row.place}{turn}", fix=error.fix) from None


def prompt_of(row: Row, tokenizer: Tokenizer) -> Prompt:
    """Raises `InputError` with the row's place."""
    values, messages = known(row)
    try:
        ids = tokenizer.chat.render(messages, add_generation_prompt=True).ids
    except InputError as error:
        raise InputError(error.what, where=row.place, fix=error.fix) from None
    texts = {key: values.get(key) or "" for key in ("expected", "careless", "domain", "attack")}
    return Prompt(messages, ids, values.get("language") or language_of(messages), bool(values.get("unsafe")), **texts,
                  place=row.place)


def _checked(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not isinstance(value.get("messages"), list):
        raise BadRow("expected a prompt, an object with messages", fix='write {"messages": [...]} or {"prompt": ...}')
    if not value["messages"]:
        raise BadRow("messages is empty", fix="write what the user says, or remove the row")
    for key, given in value.items():
        if key not in KEYS and key not in HARMLESS:
            near = nearest_name(str(key), KEYS, at_least=0.7)
            raise BadRow(f"unknown key '{key}'", fix=f"did you mean '{near}'?" if near else f"known: {', '.join(KEYS)}")
        wanted: type = bool if key == "unsafe" else list if key == "messages" else str
        if key in KEYS and given is not None and not isinstance(given, wanted):
            raise BadRow(f"'{key}' is {type(given).__name__} and not {wanted.__name__}", fix="correct the row")
    return value


def _messages(turns: list[Any]) -> Iterator[Message]:
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping) or turn.get("role") not in _ROLES:
            raise BadRow(f"expected a message of {', '.join(_ROLES)}", turn=number, fix="correct the message")
        content = turn.get("content")
        if not isinstance(content, str) or not content.strip():
            raise BadRow("an empty message, or one that is no text", turn=number, fix="correct or remove the row")
        yield {"role": turn["role"], "content": content}
    if turns[-1]["role"] != "user":
        raise BadRow("a prompt ends with what the user says", fix="remove the answer behind it")
