"""Which language a text is written in (Compact Language Detector 2)."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from headwater.errors import MissingExtraError, SettingsError

# CLD2 refuses control characters, surrogates and non-characters.
_REFUSED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]|[\U0001fffe-\U0001ffff]")


# Code, formulas, markup and addresses, which are written in Latin letters in every language.
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]{1,200}`|\$\$.*?(?:\$\$|\Z)|<[^>\n]{1,200}>|https?://\S+"
                   r"|\]\([^)\n]{0,200}\)", re.DOTALL)
_ENOUGH = 100
"""Characters without code by which a text is judged."""


@dataclass(frozen=True)
class Language:
    """`code` is ISO 639-1 ("und" when it cannot be told), `share` the part of the text in it, `traditional` the
    script of a Chinese text."""

    code: str
    share: float
    traditional: bool = False


UNKNOWN = Language("und", 0.0)
_RENAMED = {"iw": "he", "jw": "jv"}
"""What ISO 639-1 calls them today."""


def check_languages(codes: Collection[str]) -> None:
    """Raises `SettingsError` for a code that `identify` never gives."""
    pycld2 = _detector()
    told = set(pycld2.DETECTED_LANGUAGES)
    known = {_plain(code): name.lower() for name, code in pycld2.LANGUAGES if name in told} | {"zh": "chinese"}
    for code in codes:
        if code not in known and code != UNKNOWN.code:
            meant = next((one for one, name in known.items() if name == code.lower()), None)
            raise SettingsError(f"'{code}' is no language code", where="languages",
                                fix=f"write {meant}" if meant else "write ISO 639-1 codes such as en, zh and de")


def identify(text: str) -> Language:
    """The main language of `text`, of its prose where it has some beside code: a Chinese manual is Chinese. Chinese is
    "zh" in either script (Cantonese too).

    Raises `MissingExtraError` when pycld2 is not installed.
    """
    pycld2 = _detector()
    prose = _CODE.sub(" ", text)
    judged = prose if len(prose) - prose.count(" ") >= _ENOUGH else text
    try:
        _, _, found = pycld2.detect(_REFUSED.sub(" ", judged), isPlainText=True, bestEffort=True)
    except pycld2.error:
        return UNKNOWN
    code, percent = next(((code, percent) for _, code, percent, _ in found if code != "un"), ("un", 0))
    if not percent:
        return UNKNOWN
    return Language(_plain(code), percent / 100, traditional=code == "zh-Hant")


def _plain(code: str) -> str:
    code = code.split("-")[0]
    return _RENAMED.get(code, code)


def _detector() -> Any:
    try:
        import pycld2
    except ImportError as error:
        raise MissingExtraError(f"language identification needs pycld2 ({error})",
                                fix="pip install 'headwater[corpus]'") from None
    return pycld2
