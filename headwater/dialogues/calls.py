"""Calls of functions and the functions on offer, in the forms in which dialogues have them."""

from __future__ import annotations

import json
from typing import Any

from headwater.dialogues.rows import BadRow
from headwater.tokenizer import Message


def text_of(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise expected("text", key, value)
    return value


def expected(what: str, key: str, found: Any) -> BadRow:
    """What is wrong with a key that holds another type."""
    name = "nothing" if found is None else type(found).__name__
    return BadRow(f"expected {what} in '{key}', found {name}", fix=f"give {what}")


def parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise BadRow(f"{what} that is no JSON") from None


def call_of(call: Any) -> Message:
    """From {"name", "arguments"}, or OpenAI's object with these in `function`. The content is the arguments' JSON."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"].strip():
        raise BadRow("a call without a function's name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        parsed(arguments, "arguments of a call")
    elif isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    else:
        raise BadRow(f"arguments of a call of type {type(arguments).__name__}", fix="give an object")
    return {"role": "assistant", "content": arguments, "metadata": function["name"]}


def tools_of(tools: Any) -> list[dict[str, Any]]:
    """Functions on offer, bare or in OpenAI's form, also as a JSON string, as bare ones."""
    if isinstance(tools, str):
        tools = parsed(tools, "a list of tools") if tools.strip() else []
    if tools is None:
        return []
    bare = [tool.get("function", tool) if isinstance(tool, dict) else tool for tool in tools] \
        if isinstance(tools, list) else [tools]
    if not all(isinstance(tool, dict) and isinstance(tool.get("name"), str) for tool in bare):
        raise BadRow("tools that are not a list of functions with names",
                     fix='give [{"name": ..., "description": ..., "parameters": ...}]')
    return bare
