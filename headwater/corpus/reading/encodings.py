"""Bytes of a page to text: byte order mark, UTF-8, what the page declares, then GB18030, Big5 and Windows-1252."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

SAMPLE = 1 << 16
"""Bytes looked at to choose the encoding (the decision is stable long before; the whole page is then decoded)."""
ACCEPTED = 0.3
"""Below this plausibility (0..1) no encoding is believed and the bytes are not text."""
DECLARED_BONUS = 0.2

_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]+)""", re.IGNORECASE)
_BOMS = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
         (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]
_LONE = re.compile(r"(?<![^\x00-\x7f])[^\x00-\x7f](?![^\x00-\x7f])")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_CJK_MARKS = "　、。〈〉《》「」『』【】〔〕・—…‘’“”·！，．：；？（）［］％＋－／～￥０１２３４５６７８９"

# Labels of the WHATWG encoding standard that pages use, to Python's codec: gb2312 and gbk pages hold GB18030
# characters, "iso-8859-1" means Windows-1252. A declared name outside this table is not believed.
_CODECS = {"utf-8": "utf-8", "utf8": "utf-8", "unicode-1-1-utf-8": "utf-8",
           "gb2312": "gb18030", "gbk": "gb18030", "x-gbk": "gb18030", "gb_2312-80": "gb18030", "gb18030": "gb18030",
           "hz-gb-2312": "hz", "big5": "big5hkscs", "big5-hkscs": "big5hkscs", "cn-big5": "big5hkscs",
           "x-x-big5": "big5hkscs", "us-ascii": "cp1252", "ascii": "cp1252", "latin1": "cp1252", "l1": "cp1252",
           "iso-8859-1": "cp1252", "iso8859-1": "cp1252", "shift_jis": "cp932", "shift-jis": "cp932",
           "x-sjis": "cp932", "sjis": "cp932", "windows-31j": "cp932", "euc-jp": "euc_jp", "x-euc-jp": "euc_jp",
           "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "utf-16": "utf-16", "utf-16le": "utf-16-le",
           "koi8-r": "koi8_r", "koi8-u": "koi8_u",
           **{f"windows-{page}": f"cp{page}" for page in (874, *range(1250, 1259))},
           **{f"iso-8859-{part}": f"iso8859_{part}" for part in range(2, 17) if part != 12}}


def declared_charset(page: bytes) -> str | None:
    """The charset a page's `<meta>` names in its first 8 KiB, as written there."""
    match = _META.search(page[:8192])
    return match[1].decode("ascii") if match else None


def decode(content: bytes, *declared: str | None) -> tuple[str, str]:
    """Text of `content` and the codec used; `declared` are the names given by HTTP and by the page, in that order.

    A byte order mark decides. Bytes that are valid UTF-8 are UTF-8 whatever the page declares (text in another
    encoding is practically never valid UTF-8, while pages that declare gb2312 and are UTF-8 exist). Otherwise each
    declared and each usual encoding is tried on a sample and the most plausible is taken, damaged characters
    becoming U+FFFD. Raises `UnicodeError` when none is plausible.
    """
    for mark, codec in _BOMS:
        if content.startswith(mark):
            return content[len(mark):].decode(codec, "replace"), codec
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    named = [_CODECS[name.strip().lower()] for name in declared if name and name.strip().lower() in _CODECS]
    sample = _around_first_non_ascii(content)
    scores = {codec: _plausibility(sample, codec) + DECLARED_BONUS * (codec in named)
              for codec in dict.fromkeys([*named, "utf-8", "gb18030", "big5hkscs", "cp1252"])}
    best = max(scores, key=lambda codec: scores[codec])
    if scores[best] < ACCEPTED:
        raise UnicodeError(f"bytes are not text in any encoding tried ({', '.join(scores)})")
    return content.decode(best, "replace"), best


def _around_first_non_ascii(content: bytes) -> bytes:
    start = next((match.start() for match in re.finditer(rb"[\x80-\xff]", content)), 0)
    return content[max(0, start - SAMPLE // 2):start + SAMPLE // 2]


def _plausibility(sample: bytes, codec: str) -> float:
    """How much of the non-ASCII part reads as usual text of that encoding: 1 all of it, 0 or less none."""
    text = sample.decode(codec, "replace").removesuffix("\ufffd")  # the sample may end inside a character
    found = _NON_ASCII.findall(text)
    if not found:
        return 0.0
    damaged = text.count("\ufffd") / max(len(found), len(text) / 20)  # a few bad bytes in much ASCII are no verdict
    if codec in ("gb18030", "big5hkscs"):
        usual = sum(map(_usual(codec).__contains__, found)) / len(found)
    elif codec.startswith(("cp125", "iso8859")):
        # Accented letters and typographic quotes stand alone between ASCII; the bytes of Chinese come in runs.
        usual = len(_LONE.findall(text)) / len(found)
    else:
        usual = 0.9
    return usual - 5 * damaged


@lru_cache(maxsize=2)
def _usual(codec: str) -> frozenset[str]:
    """The common characters of a Chinese encoding: GB 2312 level 1 (3,755), Big5's frequent plane (5,401), marks."""
    leads, trails = (range(0xB0, 0xD8), range(0xA1, 0xFF)) if codec == "gb18030" else (
        range(0xA4, 0xC7), [*range(0x40, 0x7F), *range(0xA1, 0xFF)])
    plane = b"".join(bytes((lead, trail)) for lead in leads for trail in trails)
    return frozenset(plane.decode(codec, "ignore")) | frozenset(_CJK_MARKS)
