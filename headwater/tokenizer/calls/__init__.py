"""How each family writes calls of tools: read, written and constrained, never evaluated."""

from __future__ import annotations

from collections.abc import Iterable

from headwater.tokenizer.calls.chatglm3 import ChatGlm3Calls
from headwater.tokenizer.calls.format import CallFormat
from headwater.tokenizer.calls.glm4 import Glm4Calls
from headwater.tokenizer.calls.own import OwnCalls
from headwater.tokenizer.calls.plain import PlainCalls
from headwater.tokenizer.calls.reply import (
    ArgumentsDelta,
    Call,
    CallBegins,
    CallEnds,
    Choice,
    Malformed,
    Mark,
    Offered,
    Only,
    Part,
    Reply,
    TextDelta,
)
from headwater.tokenizer.chat import ChatTemplate, HeadwaterTemplate
from headwater.tokenizer.templates import ChatGLM3Template, GLM4Template

__all__ = ["ArgumentsDelta", "Call", "CallBegins", "CallEnds", "CallFormat", "ChatGlm3Calls", "Choice", "Glm4Calls",
           "Malformed", "Mark", "Offered", "Only", "OwnCalls", "Part", "PlainCalls", "Reply", "TextDelta",
           "format_for"]


def format_for(template: ChatTemplate, tools: Iterable[Offered] = ()) -> CallFormat:
    """The format that a family's chat template goes with; plain JSON where it has none of its own."""
    if isinstance(template, GLM4Template):
        return Glm4Calls(tools)
    if isinstance(template, ChatGLM3Template):
        return ChatGlm3Calls(tools)
    if isinstance(template, HeadwaterTemplate) and template.has_tools:
        return OwnCalls(tools)
    return PlainCalls(tools)
