"""Which language a text is written in (Compact Language Detector 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from headwater.errors import MissingExtraError

# CLD2 refuses control characters, surrogates and non-characters.
_REFUSED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]|[\U0001fffe-\U0001ffff]")


@dataclass(frozen=True)
class Language:
    """`code` is ISO 639-1 ("und" when it cannot be told), `share` the part of the text in it, `traditional` the
    script of a Chinese text."""

    code: str
    share: float
    traditional: bool = False


UNKNOWN = Language("und", 0.0)


def identify(text: str) -> Language:
    """The main language of `text`. Chinese is "zh" in either script (Cantonese too).

    Raises `MissingExtraError` when pycld2 is not installed.
    """
    try:
        import pycld2
    except ImportError as error:
        raise MissingExtraError(f"language identification needs pycld2 ({error})",
                                fix="pip install 'headwater[corpus]'") from None
    try:
        _, _, found = pycld2.detect(_REFUSED.sub(" ", text), isPlainText=True, bestEffort=True)
    except pycld2.error:
        return UNKNOWN
    _, code, percent, _ = found[0]
    if code == "un":
        return UNKNOWN
    return Language(code.split("-")[0], percent / 100, traditional=code == "zh-Hant")
