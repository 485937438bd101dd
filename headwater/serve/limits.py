"""What one request may ask for, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one request."""

    body: int = 1 << 20
    """Bytes."""
    seconds: float | None = None
    """Until its answers are ended with what they have; as long for its body to come."""
    choices: int = 16
    """`n`."""
    prompts: int = 256
    """In a list of them, each counted `n` times."""
    unread: float | None = 60.0
    """Seconds that a client may leave unread what was sent."""
