"""Text that others wrote, for a terminal."""

from __future__ import annotations

import re

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Without what a terminal obeys, and without what turns the order of letters: a model may say anything."""
    return _OBEYED.sub("\ufffd", text)
