"""Long work whose rows are made and written portion by portion: a kill loses at most one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headwater.artifacts import read_jsonl, write_jsonl
from headwater.progress import track

Rows = list[dict[str, Any]]


def in_portions(total: int, each: int, make: Callable[[range], Rows], folder: Path, doing: str
                ) -> Iterator[dict[str, Any]]:
    """The rows that `make` gives for the numbers below `total`, so many at once; what lies in the folder is read."""
    for start in track(range(0, total, each), doing):
        path = folder / f"{start:08d}.jsonl"
        if not path.exists():
            write_jsonl(path, make(range(start, min(start + each, total))))
        yield from read_jsonl(path)
