"""Conversations as training sequences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from headwater.artifacts import read_jsonl
from headwater.errors import InputError
from headwater.progress import say
from headwater.tokenizer import Message, Rendered, Tokenizer


class Dialogue(NamedTuple):
    messages: list[Message]
    language: str


def read_dialogues(paths: list[Path]) -> list[Dialogue]:
    """Rows of `{"messages": [{"role", "content"}, ...], "language": ...}`.

    Raises `InputError` with file and line for a row of another form or without an assistant's turn.
    """
    found = [dialogue for path in paths for dialogue in _read(path)]
    if not found:
        raise InputError("no dialogues", where=", ".join(map(str, paths)), fix="give a JSONL file with messages")
    return found


def _read(path: Path) -> Iterator[Dialogue]:
    for number, row in enumerate(read_jsonl(path), 1):
        messages = row.get("messages") if isinstance(row, dict) else None
        where = f"{path}, dialogue {number}"
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            keys = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise InputError(f"expected a list under 'messages', found {keys}", where=where,
                             fix='write rows as {"messages": [{"role": ..., "content": ...}]}')
        if not any(message.get("role") == "assistant" for message in messages):
            raise InputError("no message of the assistant: nothing to learn from", where=where, fix="remove the row")
        plain: list[Message] = [{"role": str(m.get("role")), "content": m.get("content")} for m in messages]
        yield Dialogue(plain, str(row.get("language", "unknown")))


def render_all(dialogues: list[Dialogue], tokenizer: Tokenizer, longest: int) -> list[Rendered]:
    """Every dialogue as one sequence, all turns in it. One longer than `longest` tokens keeps its first whole rounds.

    Dialogues of which not even one round fits are left out and counted aloud.
    """
    rendered, dropped, cut = [], 0, 0
    for dialogue in dialogues:
        whole = tokenizer.chat.render(dialogue.messages)
        kept = whole if len(whole.ids) <= longest else _first_rounds(dialogue.messages, tokenizer, longest)
        if kept is None:
            dropped += 1
        else:
            cut += kept is not whole
            rendered.append(kept)
    if dropped or cut:
        say(f"of {len(dialogues)} dialogues, {cut} were cut to the rounds that fit {longest} tokens, "
            f"{dropped} left out")
    if not rendered:
        raise InputError(f"no dialogue fits {longest} tokens", fix="raise trainer.sequence_length")
    return rendered


def _first_rounds(messages: list[Message], tokenizer: Tokenizer, longest: int) -> Rendered | None:
    ends = [i + 1 for i, message in enumerate(messages) if message["role"] == "assistant"]
    for end in reversed(ends[:-1]):
        rendered: Any = tokenizer.chat.render(messages[:end])
        if len(rendered.ids) <= longest:
            return rendered
    return None
