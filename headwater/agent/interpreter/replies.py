"""What a session says of a cell, read as from a stranger: whatever runs in it may write to the same pipe."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.agent.tool import Image

_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_BESIDE_IMAGES = 4096
"""Bytes of an answer that has none."""
_COMMAS = 3
"""Of an answer that has none; base64 has no comma either."""


class NonsenseError(Exception):
    """An answer that no session of ours gives."""


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    cell: int
    raised: bool
    images: list[str]
    left_out: int = Field(ge=0, le=1_000_000)


@dataclass(frozen=True)
class Reply:
    """A cell has ended."""

    raised: bool
    images: tuple[Image, ...]
    left_out: int
    """Pictures that were too large or too many, or none at all."""


def longest_reply(images: int, image_bytes: int) -> int:
    """Bytes of the longest answer that is read."""
    return _BESIDE_IMAGES + images * (_letters(image_bytes) + 4)


def parse_reply(line: bytes, cell: int, images: int, image_bytes: int) -> Reply:
    """Raises `NonsenseError`. What an answer of ours cannot have is seen before anything is made of it: a line of
    16 MiB has room for millions of pictures."""
    if line.count(b",") > _COMMAS + images:
        raise NonsenseError("an answer of too many parts")
    try:
        said = _Said.model_validate_json(line)
        if said.cell != cell or len(said.images) > images or any(len(t) > _letters(image_bytes) for t in said.images):
            raise NonsenseError("an answer to something else, or beyond its bounds")
        data = [base64.b64decode(text, validate=True) for text in said.images]
    except (ValidationError, binascii.Error, ValueError) as error:
        raise NonsenseError(f"an answer that is none: {type(error).__name__}") from None
    if any(len(one) > image_bytes for one in data):
        raise NonsenseError("a picture beyond its bounds")
    kinds = [_kind(one) for one in data]
    known = tuple(Image(one, kind) for one, kind in zip(data, kinds) if kind is not None)
    return Reply(said.raised, known, said.left_out + kinds.count(None))


def _letters(size: int) -> int:
    """Of so many bytes as base64, at most."""
    return 4 * (size // 3 + 1)


def _kind(data: bytes) -> str | None:
    """Media type of the formats that every browser shows and none runs."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)
