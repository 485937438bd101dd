"""The forms in which dialogues are published, told by their keys; each row becomes messages, or is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from headwater.dialogues.calls import call_of, expected, parsed, text_of, tools_of
from headwater.dialogues.rows import BadRow, Unusable
from headwater.settings import nearest_name
from headwater.tokenizer import Message

HARMLESS = frozenset(("id", "index", "language", "lang", "source", "dataset", "category", "kind", "type", "task",
                      "topic", "domain", "title", "model", "url", "date", "license", "split", "reward", "unsafe",
                      "expected", "careless", "attack"))
"""Keys of a row that speak about it and are no part of the dialogue."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "observation",
          "observation": "observation"}
_SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
             "function_call": "call", "observation": "observation", "tool": "observation"}
_IN_MESSAGE = ("role", "content", "tool_calls", "tools", "metadata", "reasoning_content")
_NOTHING: tuple[Any, ...] = (None, "", [], {})
REASONING = "parts of reasoning are left out"
Notes = Counter[str]
"""What a reader did beside reading, and how often."""


class Form(NamedTuple):
    """One form of rows."""

    name: str
    """Of its rows, for messages."""
    needed: tuple[str, ...]
    """Keys that tell the form; each must be there."""
    others: tuple[str, ...]
    read: Callable[[Mapping[str, Any], Notes, Collection[str]], list[Message]]
    """From a row; of its messages too the keys named last are no part."""

    @property
    def keys(self) -> tuple[str, ...]:
        return self.needed + self.others


def form_of(row: Any, ignored: Collection[str] = ()) -> Form:
    """The form of a row. Raises `BadRow` for none, for two at once, for a key that is missing or unknown."""
    if not isinstance(row, Mapping):
        raise BadRow(f"expected a dialogue, found {type(row).__name__}", fix=f"write rows with {_LISTED}")
    found = [form for form in FORMS if any(key in row and key not in ignored for key in form.needed)]
    if len(found) > 1:
        raise BadRow(f"keys of two forms, {' and '.join(form.name for form in found)}", fix="leave one of them")
    known = found[0].keys if found else tuple(dict.fromkeys(key for form in FORMS for key in form.keys))
    unknown = unknown_keys(row, known, {*HARMLESS, *ignored})
    if not found:
        raise BadRow(f"expected a dialogue, found {', '.join(map(str, row)) or 'an empty object'}",
                     fix=f"write rows with {_LISTED}")
    missing = [key for key in found[0].needed if row.get(key) is None]
    if missing:
        raise BadRow(f"the key '{missing[0]}' is missing, {found[0].name} have {' and '.join(found[0].needed)}")
    refuse(unknown, known)
    return found[0]


def unknown_keys(values: Mapping[str, Any], known: Collection[str], harmless: Collection[str]) -> list[str]:
    """Keys that are none of these and hold something. Raises `BadRow` for one that is nearly a known one; an empty one
    must be nearer, since files have columns for what other rows hold."""
    unknown = {str(key): value for key, value in values.items() if key not in known and key not in harmless}
    for key, value in unknown.items():
        near = nearest_name(key, known, at_least=0.8 if value in _NOTHING else 0.7)
        if near:
            raise BadRow(f"unknown key '{key}'", fix=f"did you mean '{near}'?")
    return [key for key, value in unknown.items() if value not in _NOTHING]


def refuse(unknown: list[str], known: Collection[str]) -> None:
    if unknown:
        raise BadRow(f"unknown {'keys' if len(unknown) > 1 else 'key'} {', '.join(map(repr, unknown))}",
                     fix=f"known here: {', '.join(known)}; reading.ignored_keys=[NAME, ...] leaves keys out, of rows "
                         "and of messages")


def _alpaca(row: Mapping[str, Any], notes: Notes, ignored: Collection[str]) -> list[Message]:
    system = _text(row, "system")
    said: list[Message] = [{"role": "system", "content": system}] if system else []
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise BadRow("the history is not a list of [question, answer]")
    asked = "\n".join(filter(None, (_text(row, "instruction"), _text(row, "input"))))
    for question, answer, key in (*((*pair, "history") for pair in history), (asked, row["output"], "output")):
        said += [{"role": "user", "content": text_of(question, key)},
                 {"role": "assistant", "content": text_of(answer, key)}]
    return said


def _text(row: Mapping[str, Any], key: str) -> str:
    """Empty where the row has none."""
    return "" if row.get(key) is None else text_of(row[key], key)


def _conversations(row: Mapping[str, Any], notes: Notes, ignored: Collection[str]) -> list[Message]:
    said = list(_each(row, "conversations", lambda turn: _spoken(turn, ignored)))
    system = _text(row, "system")
    if system:
        if said and said[0]["role"] == "system":
            raise BadRow("a system message beside the turns and another among them", fix="leave one of them")
        said.insert(0, {"role": "system", "content": system})
    return _offered(said, tools_of(row.get("tools")))


def _spoken(turn: Mapping[str, Any], ignored: Collection[str]) -> Iterator[Message]:
    """A turn {"from", "value"}."""
    refuse(unknown_keys(turn, known := ("from", "value"), {*HARMLESS, *ignored}), known)
    role, value = _known(turn.get("from"), _SPEAKERS, "from"), turn.get("value")
    if role == "call":
        calls = parsed(text_of(value, "value"), "a call")
        yield from map(call_of, calls if isinstance(calls, list) else [calls])
    else:
        yield {"role": role, "content": text_of(value, "value")}


def _messages(row: Mapping[str, Any], notes: Notes, ignored: Collection[str]) -> list[Message]:
    said = list(_each(row, "messages", lambda turn: _message(turn, notes, ignored)))
    return _offered(said, tools_of(row.get("tools")))


def _message(turn: Mapping[str, Any], notes: Notes, ignored: Collection[str]) -> Iterator[Message]:
    """A message of OpenAI's form; calls in `tool_calls`, or one named by `metadata`, as our own messages have it."""
    refuse(unknown_keys(turn, _IN_MESSAGE, {"tool_call_id", "name", "id", *ignored}), _IN_MESSAGE)
    role = _known(turn.get("role"), _ROLES, "role")
    text, calls = _content(turn.get("content"), notes)
    told = turn.get("tool_calls") or []
    if not isinstance(told, list):
        raise expected("a list", "tool_calls", told)
    calls += told
    notes[REASONING] += bool(turn.get("reasoning_content"))
    if turn.get("metadata"):
        calls, text = [{"name": turn["metadata"], "arguments": text}, *calls], ""
    if calls and role != "assistant":
        raise BadRow(f"a call of a function by the {role}")
    if text or not calls:
        tools = tools_of(turn.get("tools"))
        yield {"role": role, "content": text, "tools": tools} if tools else {"role": role, "content": text}
    yield from map(call_of, calls)


def _content(content: Any, notes: Notes) -> tuple[str, list[Any]]:
    """The text of a message and the calls among its parts."""
    if not isinstance(content, list):
        return text_of(content if content is not None else "", "content"), []
    texts, calls = [], []
    for part in content:
        if not isinstance(part, dict):
            raise expected("text or a list of objects", "content", content)
        kind, value = part.get("type"), part.get("text") or part.get("value") or ""
        if kind == "text":
            texts.append(text_of(value, "content"))
        elif kind == "tool_call":
            calls.append(parsed(text_of(value, "content"), "a call"))
        elif kind == "reasoning":
            notes[REASONING] += 1
        else:
            raise BadRow(f"a part of type {kind!r} in the content", fix="this is a model of texts: give text")
    return "".join(texts), calls


MESSAGES = Form("dialogues of messages", ("messages",), ("tools",), _messages)
SHAREGPT = Form("ShareGPT conversations", ("conversations",), ("tools", "system"), _conversations)
ALPACA = Form("Alpaca instructions", ("instruction", "output"), ("input", "system", "history"), _alpaca)
FORMS = (MESSAGES, SHAREGPT, ALPACA)
_LISTED = " or ".join(", ".join(form.needed) for form in FORMS)


def messages_of(row: Mapping[str, Any], form: Form, notes: Notes, ignored: Collection[str] = ()) -> list[Message]:
    """What is said in a row. ignored: keys that are no part of it. Raises `BadRow` where something in it is empty,
    missing or of a wrong type."""
    said = said_in(row, form, notes, ignored)
    check_turns(said)
    return said


def said_in(row: Mapping[str, Any], form: Form, notes: Notes, ignored: Collection[str] = ()) -> list[Message]:
    """What is said in a row, whatever its order. Raises `BadRow` where something is missing or of a wrong type."""
    return [message for message in form.read(row, notes, ignored)
            if message["role"] != "system" or message["content"] or message.get("tools")]


def check_turns(messages: list[Message]) -> None:
    """A dialogue is asked before it is answered, every question is, and so is every call but the last. Raises
    `Unusable`."""
    before = "start"
    for number, message in enumerate(messages, 1):
        role = "call" if message.get("metadata") else message["role"]
        if role in ("user", "assistant", "call") and not message["content"].strip():
            raise Unusable(f"an empty {_NAMES[role]}", turn=number)
        if before not in _AFTER[role]:
            known = " or ".join(_NAMES[one] for one in _AFTER[role])
            missing = "move it to the front" if role == "system" else "a turn is missing before it"
            raise Unusable(f"{_NAMES[role]} after {_NAMES[before]}", turn=number,
                           fix=f"{_NAMES[role]} follows {known}: {missing}")
        before = role
    if not any(message["role"] == "assistant" for message in messages):
        raise Unusable("no message of the assistant: nothing to learn from", fix="remove the row")
    if before not in ("assistant", "call"):
        raise Unusable(f"{_NAMES[before]} at the end, without an answer", fix="remove that turn")


_AFTER = {"system": ("start",), "user": ("start", "system", "assistant"), "assistant": ("user", "observation"),
          "call": ("user", "observation", "assistant", "call"), "observation": ("call", "observation")}
_NAMES = {"start": "the beginning", "system": "system message", "user": "question", "assistant": "answer",
          "call": "call", "observation": "observation"}


def _each(row: Mapping[str, Any], key: str, read: Callable[[Mapping[str, Any]], Iterable[Message]]
          ) -> Iterator[Message]:
    if not isinstance(row[key], list):
        raise expected("a list", key, row[key])
    for number, turn in enumerate(row[key], 1):
        try:
            if not isinstance(turn, Mapping):
                raise expected("an object", key, turn)
            yield from read(turn)
        except BadRow as error:
            raise BadRow(str(error), turn=number, fix=error.fix) from None


def _known(name: Any, known: Mapping[str, str], key: str) -> str:
    if name is None:
        raise BadRow(f"a turn without '{key}'", fix=f"write {key} with one of {', '.join(known)}")
    if text_of(name, key) not in known:
        near = nearest_name(name, known, at_least=0.6)
        raise BadRow(f"unknown role '{name}'", fix=f"did you mean '{near}'?" if near else f"use {', '.join(known)}")
    return known[name]


def _offered(messages: list[Message], tools: list[dict[str, Any]]) -> list[Message]:
    """The messages with the tools on the system message, one without content where there is none."""
    if not tools:
        return messages
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": ""}, *messages]
    if messages[0].get("tools"):
        raise BadRow("tools beside the messages and others in the system message", fix="leave one of them")
    return [{**messages[0], "tools": tools}, *messages[1:]]
