"""The chat template: one object renders a conversation, with its loss mask, for tuning, evaluation and serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from headwater.errors import InputError

if TYPE_CHECKING:
    from headwater.tokenizer.vocabulary import Tokenizer

ROLES = ("system", "user", "assistant")
END = "<|end|>"
SPECIALS = (*(f"<|{role}|>" for role in ROLES), END)
"""The control pieces: a role mark before each message, an end mark after it."""

JINJA = ("{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
         "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
"""The same template for tools that read it from `tokenizer_config.json`."""


class Message(TypedDict):
    role: str
    content: str


@dataclass(frozen=True)
class Rendered:
    """A conversation as ids; `loss_mask` is true on what the assistant must learn to say."""

    ids: list[int]
    loss_mask: list[bool]


class ChatTemplate:
    """`<bos>` then, per message, its role's mark, the content's ids and the end mark.

    The marks are ids that no text encodes to, so a user who types "<|system|>" has typed text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._marks = tokenizer.specials

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end the assistant's turn."""
        return self._marks[END], self._tokenizer.eos

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> Rendered:
        """Ids and loss mask; with `add_generation_prompt` the ids end where the assistant begins to speak.

        The mask covers the assistant's content and its end mark. Raises `InputError` for an unknown role, a system
        message that is not first, or content that is not text.
        """
        ids, mask = [self._tokenizer.bos], [False]
        for number, message in enumerate(messages):
            _check(message, number)
            content = self._tokenizer.encode(message["content"])
            spoken = message["role"] == "assistant"
            ids += [self._marks[f"<|{message['role']}|>"], *content, self._marks[END]]
            mask += [False] + [spoken] * (len(content) + 1)
        if add_generation_prompt:
            ids.append(self._marks["<|assistant|>"])
            mask.append(False)
        return Rendered(ids, mask)


def _check(message: Message, number: int) -> None:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise InputError(f"message {number} has role {role!r}", fix=f"use one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise InputError(f"message {number} has content of type {type(content).__name__}", fix="give a string")
    if role == "system" and number > 0:
        raise InputError(f"message {number} is a system message", fix="put the system message first")
