"""The forms in which questions and requests are filed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Questions:
    """The wordings that ask for one attribute in one language; see `questions_en` for who uses which."""

    asks: tuple[str, ...]
    follows: tuple[str, ...]
    faqs: tuple[str, ...]
    held_back: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """Something that is to be declined, and something harmless that looks like it. Of the wordings of each the last is
    for validation alone."""

    domain: str
    asks: tuple[str, ...]
    refusal: str
    """Polite, with another offer; said to the harmless one it would be a refusal too many."""
    careless: str
    """What comes of simply obeying."""
    harmless_asks: tuple[str, ...]
    help: str
    """The good answer to the harmless one."""
