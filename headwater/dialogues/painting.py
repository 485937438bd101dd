"""Sequences as text in which some tokens stand out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from headwater.tokenizer import Tokenizer

OPENS, CLOSES = "⟦", "⟧"
"""Around what stands out, where there are no colours."""
TYPED = "␛"
"""Before a special token's name that is plain text, where there are no colours."""


def painted(tokenizer: Tokenizer, ids: Sequence[int], chosen: Sequence[bool], *, colours: bool) -> Text:
    """The text of the ids with special ones by their names. In colours the chosen ones are green, and special ones are
    underlined; else the chosen ones stand between brackets, and a name that was typed behind ␛."""
    shown, names = Text(), re.compile("|".join(re.escape(tokenizer.piece(index)) for index in tokenizer.marks))
    for outstanding, run in groupby(zip(ids, chosen), key=lambda place: place[1]):
        shown.append(OPENS if outstanding and not colours else "")
        for special, part in groupby((index for index, _ in run), key=tokenizer.marks.__contains__):
            text = tokenizer.spell(list(part))
            style = ("bold green" if outstanding else "") + (" underline" if special else "")
            shown.append(text if special or colours else names.sub(rf"{TYPED}\g<0>", text), style=style * colours)
        shown.append(CLOSES if outstanding and not colours else "")
    return shown
