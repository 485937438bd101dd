"""Parts of files as one piece of memory, without reading them: the pages of a file, put side by side by the system.

A matrix that we keep whole (query, key and value) lies in parts in the official files. Where the parts lie alike
towards page boundaries, as they do in models of ordinary sizes, their pages can be mapped one behind the other; only
the pages in which two parts meet are copied. Needs mmap(2) at a given address, which Python's mmap does not offer.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_PAGE = mmap.PAGESIZE
_ACCESS = mmap.PROT_READ | mmap.PROT_WRITE
_FIXED = 0x10
"""MAP_FIXED of Linux: exactly at the address given."""


class Part(NamedTuple):
    """Bytes `start` to `stop` of an open file."""

    descriptor: int
    start: int
    stop: int


def stitched(parts: Sequence[Part]) -> Tensor | None:
    """The parts' bytes one behind the other, uint8; nothing is read before it is used, and writing changes no file.

    None where they cannot be mapped so: another system, or parts that lie differently towards the pages.
    """
    if not sys.platform.startswith("linux"):
        return None
    lead = parts[0].start % _PAGE
    places = [lead]
    for part in parts:
        places.append(places[-1] + part.stop - part.start)
    if any((part.start - place) % _PAGE for part, place in zip(parts, places)):
        return None
    base = _reserve(places[-1])
    if base is None:
        return None
    memory = (ctypes.c_char * places[-1]).from_address(base)
    weakref.finalize(memory, _LIBRARY.munmap, base, places[-1]).atexit = False  # the system does it then
    for part, place in zip(parts, places):
        if not _lay(base, memory, part, place):
            return None
    return torch.frombuffer(memory, dtype=torch.uint8, offset=lead)


def _lay(base: int, memory: ctypes.Array[ctypes.c_char], part: Part, place: int) -> bool:
    """Map the part's whole pages to their place and copy what stands before and behind them."""
    end = place + part.stop - part.start
    first, last = -(-place // _PAGE) * _PAGE, end // _PAGE * _PAGE
    if first >= last:
        first = last = end  # less than a page: all of it is copied
    else:
        at = _LIBRARY.mmap(base + first, last - first, _ACCESS, mmap.MAP_PRIVATE | _FIXED, part.descriptor,
                           part.start + first - place)
        if at != base + first:
            return False
    view = memoryview(memory).cast("B")
    for begin, stop in ((place, first), (last, end)):
        if begin < stop and os.preadv(part.descriptor, [view[begin:stop]], part.start + begin - place) != stop - begin:
            return False
    return True


def _reserve(size: int) -> int | None:
    base = _LIBRARY.mmap(None, size, _ACCESS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    return None if base in (None, ctypes.c_void_p(-1).value) else int(base)


_LIBRARY = ctypes.CDLL(None)
_LIBRARY.mmap.restype = ctypes.c_void_p
_LIBRARY.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_LIBRARY.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
