"""What a run may use up, and what it has."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import TypeVar

from pydantic import Field

from headwater.settings import Settings

T = TypeVar("T")


class Budgets(Settings):
    """Bounds of one run."""

    steps: int = Field(default=12, gt=0)
    """Turns of the model."""
    tokens: int = Field(default=8192, gt=0)
    """That the model says in all."""
    seconds: float = Field(default=300, gt=0)
    """Of the run as a whole, a person's answer included."""
    tool_seconds: float = Field(default=60, gt=0)
    """Of one call."""
    observation: int = Field(default=8000, ge=200)
    """Characters that the model reads of what a call gave back; the middle of a longer one is left out, and that is
    said."""
    failures: int = Field(default=2, gt=0)
    """Times that the same call may fail before the run ends."""


class OutOfTime(Exception):
    """The run's seconds are used up."""


class TooLong(Exception):
    """One call's seconds are used up."""


class Meter:
    """One run's use of its budgets. Belongs to one asyncio loop, from which on the seconds count."""

    def __init__(self, budgets: Budgets) -> None:
        self.budgets = budgets
        self.steps = 0
        self.tokens = 0
        self._begun = asyncio.get_running_loop().time()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return asyncio.get_running_loop().time() - self._begun

    @property
    def tokens_left(self) -> int:
        return max(0, self.budgets.tokens - self.tokens)

    async def within(self, work: Awaitable[T], most: float = math.inf) -> T:
        """Wait for it; `most` seconds at most. Raises `TooLong` when these are over, `OutOfTime` when the run's are; it
        is cancelled then. A `TimeoutError` of its own passes."""
        left = max(0.0, self.budgets.seconds - self.seconds)
        try:
            async with asyncio.timeout(min(left, most)) as bound:
                return await work
        except TimeoutError:
            if not bound.expired():
                raise
        raise OutOfTime if left <= most else TooLong


def shortened(text: str, most: int) -> str:
    """At most so many characters of a text and a line that says what is missing, from its middle."""
    if len(text) <= most:
        return text
    head = most - most // 3
    tail = most - head
    return f"{text[:head]}\n[{len(text) - most} characters are left out here]\n{text[-tail:]}"
