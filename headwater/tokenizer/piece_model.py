"""SentencePiece's model file, as far as the library does not let one change it: the types of pieces.

The file is a protocol buffer (sentencepiece_model.proto): field 1 repeats the pieces in id order, each with its text
(field 1), score (field 2) and type (field 3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from headwater.errors import InputError

NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6
"""Types of pieces: text, never from text, always whole, for nothing, a byte of a rare character."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECE, _TEXT, _SCORE, _TYPE = 1, 1, 2, 3
_TRAINER, _KIND, _THREADS = 2, 3, 16
_UNIGRAM = 1


class Piece(NamedTuple):
    """One piece of a model: its text, its score (higher ones are joined first) and its type."""

    text: str
    score: float
    kind: int


def read_pieces(model: bytes) -> list[Piece]:
    """Every piece, in id order. Raises `InputError` for damaged bytes."""
    return [_piece(model, start, end) for _, start, end in _pieces(model)]


def _piece(model: bytes, start: int, end: int) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for field, begin, last in _fields(model, start, end):
        if field == _TEXT:
            text = _content(model[begin:last]).decode()
        elif field == _SCORE:
            (score,) = struct.unpack("<f", model[last - 4:last])
        elif field == _TYPE:
            kind = _read_varint(model, _read_varint(model, begin)[1])[0]
    return Piece(text, score, kind)


def piece_kind(model: bytes, index: int) -> int:
    """The type of one piece. Raises `InputError` for damaged bytes or an id past the pieces."""
    for number, (_, start, end) in enumerate(_pieces(model)):
        if number == index:
            return _piece(model, start, end).kind
    raise InputError(f"the model has no piece {index}")


def is_unigram(model: bytes) -> bool:
    """Whether the likeliest cut of a text is taken, and not one merge after the other. Raises `InputError` for damaged
    bytes."""
    for field, begin, end in _fields(model, 0, len(model)):
        if field == _TRAINER:
            body = _content(model[begin:end])
            for inner, start, _ in _fields(body, 0, len(body)):
                if inner == _KIND:
                    return _read_varint(body, _read_varint(body, start)[1])[0] == _UNIGRAM
    return True


def with_controls(model: bytes, ids: Collection[int]) -> bytes:
    """The model with these pieces made control pieces, which no text encodes to. Raises `InputError`."""
    out = bytearray()
    kept = last = 0
    wanted = max(ids, default=-1)
    for number, (begin, start, end) in enumerate(_pieces(model)):
        if number > wanted:
            break
        if number in ids:
            body = b"".join(model[a:b] for field, a, b in _fields(model, start, end) if field != _TYPE)
            body += bytes([_TYPE << 3 | _VARINT, CONTROL])
            out += model[kept:begin] + _bytes_field(_PIECE, body)
            kept = end
        last = number
    if last < wanted:
        raise InputError(f"the model has no piece {wanted}")
    return bytes(out + model[kept:])


def renamed(model: bytes, change: Callable[[str], str]) -> bytes:
    """The model with every piece's text passed through `change`. Raises `InputError` for damaged bytes."""
    out = bytearray()
    kept = 0
    for begin, start, end in _pieces(model):
        parts = [(field, model[a:b]) for field, a, b in _fields(model, start, end)]
        text = next(_content(part) for field, part in parts if field == _TEXT).decode()
        if (other := change(text).encode()) != text.encode():
            body = b"".join(_bytes_field(_TEXT, other) if field == _TEXT else part for field, part in parts)
            out += model[kept:begin] + _bytes_field(_PIECE, body)
            kept = end
    return bytes(out + model[kept:])


def with_pieces(model: bytes, added: Sequence[Piece]) -> bytes:
    """The model with further pieces behind its own. Raises `InputError` for damaged bytes."""
    end = max((end for _, _, end in _pieces(model)), default=0)
    new = b"".join(_bytes_field(_PIECE, _bytes_field(_TEXT, piece.text.encode())
                                + bytes([_SCORE << 3 | _FIXED32]) + struct.pack("<f", piece.score)
                                + bytes([_TYPE << 3 | _VARINT, piece.kind])) for piece in added)
    return model[:end] + new + model[end:]


def without_threads(model: bytes) -> bytes:
    """The model without the number of threads that it was trained with. Raises `InputError` for damaged bytes."""
    out = bytearray()
    for field, begin, end in _fields(model, 0, len(model)):
        if field == _TRAINER:
            body = _content(model[begin:end])
            kept = b"".join(body[a:b] for inner, a, b in _fields(body, 0, len(body)) if inner != _THREADS)
            out += _bytes_field(_TRAINER, kept)
        else:
            out += model[begin:end]
    return bytes(out)


def _content(part: bytes) -> bytes:
    """What a field of bytes holds, its tag and length aside."""
    _, position = _read_varint(part, 0)
    _, position = _read_varint(part, position)
    return part[position:]


def _bytes_field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + _varint(len(content)) + content


def _pieces(model: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each piece's field begins, and its content's start and end."""
    for field, begin, end in _fields(model, 0, len(model)):
        if field == _PIECE:
            _, start = _read_varint(model, begin)
            _, start = _read_varint(model, start)
            yield begin, start, end


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Field numbers with where they begin (their tag included) and end."""
    while position < end:
        begin = position
        tag, position = _read_varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            _, position = _read_varint(data, position)
        elif wire == _BYTES:
            size, position = _read_varint(data, position)
            position += size
        elif wire in (_FIXED32, _FIXED64):
            position += 4 if wire == _FIXED32 else 8
        else:
            raise InputError(f"not a SentencePiece model: wire type {wire}")
        if position > end:
            raise InputError("a truncated SentencePiece model")
        yield tag >> 3, begin, position


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at a position and where the next byte is."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise InputError("a truncated SentencePiece model")
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        shift += 7
        if byte < 128:
            return value, position


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
