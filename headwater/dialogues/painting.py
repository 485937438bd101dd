"""Sequences as text in which some tokens stand out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from headwater.tokenizer import Tokenizer

OPENS, CLOSES = "⟦", "⟧"
"""Around what stands out, where there are no colours."""


def painted(tokenizer: Tokenizer, ids: Sequence[int], chosen: Sequence[bool], *, colours: bool) -> Text:
    """The text of the ids with special ones by their names; the chosen ones in colour, else between brackets."""
    shown = Text()
    for outstanding, run in groupby(zip(ids, chosen), key=lambda place: place[1]):
        text = tokenizer.spell([index for index, _ in run])
        bracketed = f"{OPENS}{text}{CLOSES}" if outstanding and not colours else text
        shown.append(bracketed, style="bold green" if outstanding and colours else "")
    return shown
