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
    """Something that is to be declined, and something harmless that looks like it."""

    domain: str
    act: str
    """What is asked for, as the wordings of a request take it."""
    refusal: str
    """Polite, with another offer; said to the harmless one it would be a refusal too many."""
    careless: str
    """What comes of simply obeying."""
    harmless: str
    """The other act."""
    help: str
    """The good answer to that."""


@dataclass(frozen=True)
class Requests:
    """The requests of a language, and what they have in common."""

    asks: tuple[str, ...]
    """Wordings around the act `{a}`; the last two are for validation alone."""
    gladly: str
    """As what does not decline begins: a small model first decides whether it does."""
    acts: tuple[Request, ...]
