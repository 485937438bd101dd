"""Pieces of grammars in llguidance's Lark form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from headwater.tokenizer.calls.format import Adapt

WHITE_SPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as our templates write it, and none of the white space that would let a random model go on for ever."""


def literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def free(name: str, longest: int | None, pattern: str = "(?s:.)*", *, stop: str = "") -> str:
    """A rule for any text. longest: in tokens. stop: what follows it, and is no part of it."""
    bounds = [*([] if longest is None else [f"max_tokens={longest}"]), *([f"stop={literal(stop)}"] if stop else [])]
    return f"{name}{'[' + ', '.join(bounds) + ']' if bounds else ''}: /{pattern}/\n"


def json_of(schema: Mapping[str, Any], adapt: Adapt) -> str:
    """A rule's right side: one line of JSON that fits the schema."""
    return "%json " + json.dumps({**adapt(dict(schema)), "x-guidance": WHITE_SPACE}, ensure_ascii=False)


def sequence(call: str, between: str, several: bool) -> str:
    """One call, or a few with something between."""
    return f"{call} ({between} {call})*" if several else call

