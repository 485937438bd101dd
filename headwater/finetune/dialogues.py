"""Conversations as training sequences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from headwater.artifacts import read_json, read_jsonl
from headwater.errors import InputError
from headwater.progress import say
from headwater.tokenizer import Message, Rendered, Tokenizer


class Dialogue(NamedTuple):
    messages: list[Message]
    language: str


SHAREGPT = {"system": "system", "human": "user", "gpt": "assistant"}
FORMS = ('{"messages": [{"role": ..., "content": ...}]}, {"conversations": [{"from": "human" or "gpt", "value": ...}]} '
         'or {"instruction": ..., "input": ..., "output": ...}')


def read_dialogues(paths: list[Path]) -> list[Dialogue]:
    """Dialogues of JSON-lines files or JSON arrays, each row in one of `FORMS`.

    A row's `language` is taken as it says, else zh or en by its script. Raises `InputError` with file and number for a
    row of another form or without an assistant's turn.
    """
    found = [dialogue for path in paths for dialogue in _read(path)]
    if not found:
        raise InputError("no dialogues", where=", ".join(map(str, paths)), fix="give a JSONL file with messages")
    return found


def _read(path: Path) -> Iterator[Dialogue]:
    if path.is_dir():
        raise InputError("this is a folder", where=path, fix="give the JSON-lines files in it")
    rows = read_json(path) if path.suffix == ".json" else read_jsonl(path)
    for number, row in enumerate(rows, 1):
        where = f"{path}, dialogue {number}"
        messages = _messages(row)
        if messages is None:
            keys = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
            raise InputError(f"expected a dialogue, found {keys}", where=where, fix=f"write rows as {FORMS}")
        if not any(message["role"] == "assistant" for message in messages):
            raise InputError("no message of the assistant: nothing to learn from", where=where, fix="remove the row")
        yield Dialogue(messages, str(row.get("language") or _language(messages)))


def _messages(row: Any) -> list[Message] | None:
    """The row's messages, None when it is of no known form."""
    if not isinstance(row, dict):
        return None
    if "instruction" in row and "output" in row:
        question = "\n".join(filter(None, [row["instruction"], row.get("input")]))
        return [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]
    turns = row.get("messages", row.get("conversations"))
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return None
    if "messages" in row:
        return [{"role": str(turn.get("role")), "content": turn.get("content", "")} for turn in turns]
    return [{"role": SHAREGPT.get(str(turn.get("from")), str(turn.get("from"))), "content": turn.get("value", "")}
            for turn in turns]


def _language(messages: list[Message]) -> str:
    """zh where a fifth of the characters or more are Han, else en."""
    text = "".join(str(message["content"]) for message in messages)
    return "zh" if sum("\u4e00" <= character <= "\u9fff" for character in text) >= len(text) / 5 else "en"


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
