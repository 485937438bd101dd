"""The form in which questions are filed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Questions:
    """The wordings that ask for one attribute in one language; see `questions_en` for who uses which."""

    asks: tuple[str, ...]
    follows: tuple[str, ...]
    faqs: tuple[str, ...]
    held_back: tuple[str, ...]
