"""Which writing systems a text uses, and whether its Chinese is written in simplified or traditional characters."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.judging.length import HAN

SCRIPTS = {"Han": HAN, "Latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff\uff21-\uff3a"
                                "\uff41-\uff5a",
           "Kana": "\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff\uff66-\uff9d", "Hangul": "\u1100-\u11ff\uac00-\ud7a3",
           "Cyrillic": "\u0400-\u052f", "Greek": "\u0370-\u03ff\u1f00-\u1fff", "Arabic": "\u0600-\u06ff\u0750-\u077f",
           "Devanagari": "\u0900-\u097f", "Thai": "\u0e00-\u0e7f", "Hebrew": "\u0590-\u05ff"}
"""Unicode ranges by script, as they stand inside a regular expression's brackets."""

_OTHER = len(SCRIPTS) + 1


def script_shares(text: str) -> dict[str, float]:
    """Share of the letters in each script, largest first, "other" for the rest; empty for a text without letters."""
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32)
    counts = np.bincount(_scripts()[codes], minlength=_OTHER + 1)
    letters = int(counts[1:].sum())
    named = zip([*SCRIPTS, "other"], counts[1:].tolist())
    return {name: count / letters for name, count in sorted(named, key=lambda item: -item[1]) if count}


@lru_cache(maxsize=1)
def _scripts() -> NDArray[np.uint8]:
    """For every code point: 0 no letter, else the number of its script."""
    everything = "".join(map(chr, range(0x110000)))
    kinds = np.zeros(0x110000, np.uint8)
    for number, ranges in enumerate(["^\\W\\d_", *SCRIPTS.values()]):
        for match in re.finditer(f"[{ranges}]+", everything):
            kinds[match.start():match.end()] = number or _OTHER
    return kinds
