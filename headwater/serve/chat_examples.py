"""Chats for the OpenAPI document: what a request may look like, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_SCHEMA = {"type": "object", "properties": {"river": {"type": "string"}, "km": {"type": "integer"}},
           "required": ["river", "km"], "additionalProperties": False}
_ASKED = {"role": "user", "content": "How long is the Velna?"}
_TOOL = {"type": "function", "function": {"name": "length", "description": "A river's length.", "strict": True,
                                          "parameters": _SCHEMA}}
_CALL = {"id": "call_1", "type": "function", "function": {"name": "length", "arguments": '{"river": "Velna", "km": 0}'}}
CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "Be brief."}, _ASKED], "temperature": 0, "max_tokens": 8},
    {"messages": [_ASKED], "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 8, "n": 2,
     "seed": 1, "logprobs": True, "top_logprobs": 2, "stop": ["\n"], "presence_penalty": 0.5, "frequency_penalty": 0.5},
    {"messages": [_ASKED], "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA}}},
    {"messages": [_ASKED], "guided_choice": ["482 km", "12 km"], "logit_bias": {"5": -1}},
    {"messages": [_ASKED], "tools": [_TOOL], "tool_choice": "required", "stream": True},
    {"messages": [_ASKED, {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                  {"role": "tool", "tool_call_id": "call_1", "content": "482"}], "tools": [_TOOL], "max_tokens": 8}]


def chats_with(tools: Sequence[str]) -> list[dict[str, Any]]:
    """Chats that ask for the server's own tools, by their types; none where it has none."""
    if not tools:
        return []
    offered: list[dict[str, Any]] = [{"type": name} for name in tools]
    done = [{"type": "call", "id": "call_1", "name": tools[0], "arguments": "{}"},
            {"type": "observation", "id": "call_1", "text": "482 km", "failed": False, "images": [], "sources": []}]
    return [
        {"messages": [_ASKED], "tools": offered, "budgets": {"steps": 2, "tokens": 60, "seconds": 1}},
        {"messages": [_ASKED], "tools": [*offered, _TOOL], "tool_choice": "required", "stream": True, "max_tokens": 60},
        {"messages": [_ASKED, {"role": "assistant", "content": "482 km.", "agent": done}, _ASKED], "tools": offered,
         "max_tokens": 8}]
