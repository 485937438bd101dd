"""Tools on offer, of every kind that a format tells apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from headwater.tokenizer.calls import CallFormat, ChatGlm3Calls, Glm4Calls, OwnCalls, PlainCalls

OBJECT: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True)
class Offer:
    name: str
    description: str = "what it does"
    parameters: dict[str, Any] = field(default_factory=lambda: dict(OBJECT))
    free_text: bool = False


TOOLS = (Offer("search"), Offer("search_more"), Offer("查询"), Offer("python", "run it", free_text=True))
FORMATS: dict[str, type[CallFormat]] = {"ChatGLM3": ChatGlm3Calls, "GLM-4": Glm4Calls, "own": OwnCalls,
                                        "plain": PlainCalls}


@pytest.fixture(params=list(FORMATS))
def format_(request: pytest.FixtureRequest) -> CallFormat:
    return FORMATS[request.param](TOOLS)
