"""The chat template: one object renders a conversation, with its loss mask, for tuning, evaluation and serving."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, Protocol, TypedDict

from headwater.errors import InputError

ROLES = ("system", "user", "assistant")
END = "<|end|>"
CALL, TOOLS, OBSERVATION = "<|call|>", "<|tools|>", "<|observation|>"
BLANK_MARKS = ("[MASK]", "[sMASK]", "[gMASK]", "<sop>", "<eop>")
"""What stands for a blank (a span, sentences, the rest of a document), and what begins and ends its filling: GLM's."""
CHAT_MARKS = (*(f"<|{role}|>" for role in ROLES), END)
"""Of our own template: a role mark before each message, an end mark after it."""
TOOL_MARKS = (OBSERVATION, CALL, TOOLS)
"""Before what a function gave back, before a call of one, before the functions on offer. A tokenizer of ours that was
trained before there were tools lacks them."""
SPECIALS = (*CHAT_MARKS, *TOOL_MARKS, *BLANK_MARKS)
"""The control pieces of a tokenizer of ours."""

JINJA = (
    "{% macro offer(tools) %}<|tools|>[{% for tool in tools %}{{ (tool.function or tool) | tojson }}"
    "{{ '' if loop.last else ', ' }}{% endfor %}]{% endmacro %}"
    "{% macro call(name, arguments) %}<|assistant|><|call|>{{ name + '\\n' }}"
    "{{ arguments if arguments is string else arguments | tojson }}<|end|>{% endmacro %}"
    "{{ bos_token }}"
    "{% if tools and not (messages and messages[0].role == 'system') %}<|system|>{{ offer(tools) }}<|end|>{% endif %}"
    "{% for message in messages %}"
    "{% if message.metadata %}{{ call(message.metadata, message.content) }}"
    "{% elif message.content or not message.tool_calls %}"
    "<|{{ 'observation' if message.role == 'tool' else message.role }}|>{{ message.content }}"
    "{% if message.role == 'system' and (message.tools or tools) %}{{ offer(message.tools or tools) }}{% endif %}"
    "<|end|>{% endif %}"
    "{% for one in message.tool_calls or [] %}"
    "{{ call((one.function or one).name, (one.function or one).arguments) }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
"""The same template for tools that read it from `tokenizer_config.json`; it knows OpenAI's form of calls and tools too,
with `tools` beside the messages."""


class Message(TypedDict):
    """One turn. `metadata` (what ChatGLM3 and GLM-4 write beside a role: a tool's name) and `tools` (functions a
    system message offers, as JSON values) are refused by families that have no such thing."""

    role: str
    content: str
    metadata: NotRequired[str]
    tools: NotRequired[list[dict[str, Any]]]


@dataclass(frozen=True)
class Rendered:
    """A conversation as ids; `loss_mask` is true on what the assistant must learn to say."""

    ids: list[int]
    loss_mask: list[bool]


class TextEncoder(Protocol):
    """What a template needs of a tokenizer."""

    @property
    def bos(self) -> int: ...

    @property
    def eos(self) -> int: ...

    @property
    def specials(self) -> dict[str, int]: ...

    def encode(self, text: str) -> list[int]: ...


Part = tuple[list[int], bool]
"""Ids and whether the assistant must learn them."""


class ChatTemplate(ABC):
    """A family's way to write a conversation. Role marks that are ids cannot be typed by a user: text never gives one.

    Where the assistant spoke last, the ids end with what ends its turn, and the mask is true there too.
    """

    name: str
    """The family's name, for messages."""
    roles: tuple[str, ...] = ROLES
    has_tools = False
    """Whether messages may carry `metadata` and `tools`."""
    without_tools = "leave it out, or say it in the content"
    """What to do about them where they may not."""
    learns_every_answer = True
    """Whether the mask is true on every answer of a conversation, or on the last one alone."""
    spoken_ids: tuple[int, ...] = ()
    """Special ids that the assistant itself writes inside its turn."""
    jinja = ""
    """The same as text, for tools that read a template so; empty: known by its ids alone."""

    def __init__(self, tokenizer: TextEncoder) -> None:
        self._tokenizer = tokenizer
        self._marks = tokenizer.specials

    @property
    @abstractmethod
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end the assistant's turn."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> Rendered:
        """Ids and loss mask; with `add_generation_prompt` the ids end where the assistant begins to speak.

        Raises `InputError` for a role or an order the family does not have, a system message that is not first,
        content that is not text, or `metadata` and `tools` where the family has none.
        """
        for number, message in enumerate(messages, 1):
            self._check(message, number)
        ids: list[int] = []
        mask: list[bool] = []
        for part, learned in self._parts(messages, add_generation_prompt):
            ids += part
            mask += [learned] * len(part)
        return Rendered(ids, mask)

    @abstractmethod
    def _parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[Part]:
        """The conversation piece by piece; the messages have been checked one by one."""

    def _check(self, message: Message, number: int) -> None:
        role, content = message.get("role"), message.get("content")
        if role not in self.roles:
            raise InputError(f"turn {number} has role {role!r}, which {self.name} does not have",
                             fix=f"use one of {', '.join(self.roles)}")
        if not isinstance(content, str):
            raise InputError(f"turn {number} has content of type {type(content).__name__}", fix="give a string")
        if role == "system" and number > 1:
            raise InputError(f"turn {number} is a system message", fix="put the system message first")
        self._check_extras(message, number)

    def _check_extras(self, message: Message, number: int) -> None:
        extras = [key for key in ("metadata", "tools") if message.get(key)]
        if extras and not self.has_tools:
            raise InputError(f"turn {number} has {' and '.join(extras)}, which {self.name} does not have",
                             fix=self.without_tools)
        metadata = message.get("metadata", "")
        if not isinstance(metadata, str) or "\n" in metadata:
            raise InputError(f"turn {number} has metadata that is not one line of text", fix="give a single line")
        tools = message.get("tools")
        if not tools:
            return
        if message["role"] != "system":
            raise InputError(f"turn {number} has tools, its role is {message['role']}",
                             fix="put the tools into the system message")
        if not isinstance(tools, list) or not all(isinstance(tool, dict) and "name" in tool for tool in tools):
            raise InputError(f"turn {number} has tools that are not a list of objects with a name",
                             fix='give [{"name": ..., "description": ..., "parameters": ...}]')


class HeadwaterTemplate(ChatTemplate):
    """Our own: `<bos>` then, per message, its role's mark, the content's ids and the end mark.

    A call of a function is a message of the assistant: <|call|>, the name, a newline, the arguments as JSON. The
    functions on offer stand behind the system message's content, <|tools|> and then a JSON list on one line.
    """

    name = "headwater's template"
    jinja = JINJA
    without_tools = ("this tokenizer was trained before there were tools: use a model whose tokenizer has "
                     f"{CALL} and {TOOLS} (train one anew), or leave them out")

    def __init__(self, tokenizer: TextEncoder) -> None:
        super().__init__(tokenizer)
        if all(mark in self._marks for mark in TOOL_MARKS):
            self.name = f"{self.name} with tools"
            self.has_tools, self.roles = True, (*ROLES, "observation", "tool")
            self.spoken_ids = (self._marks[CALL],)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return self._marks[END], self._tokenizer.eos

    def _parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[Part]:
        yield [self._tokenizer.bos], False
        for message in messages:
            role = "observation" if message["role"] == "tool" else message["role"]
            yield [self._marks[f"<|{role}|>"]], False
            yield [*self._said(message), self._marks[END]], role == "assistant"
        if add_generation_prompt:
            yield [self._marks["<|assistant|>"]], False

    def _said(self, message: Message) -> list[int]:
        encode, called, tools = self._tokenizer.encode, message.get("metadata"), message.get("tools")
        if called:
            return [self._marks[CALL], *encode(f"{called}\n{message['content']}")]
        said = encode(message["content"])
        return [*said, self._marks[TOOLS], *encode(json.dumps(tools, ensure_ascii=False))] if tools else said

    def _check_extras(self, message: Message, number: int) -> None:
        super()._check_extras(message, number)
        if message.get("metadata") and message["role"] != "assistant":
            raise InputError(f"turn {number} has metadata, its role is {message['role']}",
                             fix="name a called function in the assistant's message alone")
