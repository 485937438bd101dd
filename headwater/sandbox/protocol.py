"""What the two ends of a walled process say to each other before its work begins.

The process writes `READY`, or `UNABLE` and why. Then come messages, each behind its length in sixteen digits.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

READY, UNABLE = b"ready\n", b"unable\n"
TOKEN_BYTES = 32
LENGTH_DIGITS = 16


@dataclass(frozen=True)
class Walls:
    """What a process is to stand behind; sizes in bytes, times in seconds of its processors."""

    level: str
    """full, reduced, or none: limits alone."""
    folder: str
    """The one that it may write; "" where it gets one in memory (full)."""
    cpu: int
    memory: int
    disk: int
    files: int
    threads: int
    entries: int = 1000
    """Files and folders that its own may hold (full)."""
    readable: tuple[str, ...] = ()
    """Files and folders that it may read beside Python's own."""
    import_from: tuple[str, ...] = ()
    """Folders of packages among the readable, which can then be imported; names in these folders it may list."""

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Walls:
        said = json.loads(text)
        return cls(**said | {name: tuple(said[name]) for name in ("readable", "import_from")})


def framed(message: bytes) -> bytes:
    """The length before it."""
    return b"%*d" % (LENGTH_DIGITS, len(message)) + message


def read_framed(pipe: int) -> bytes:
    """The next message. Ends the process where no more will come: whoever started it is gone."""
    return _exactly(pipe, int(_exactly(pipe, LENGTH_DIGITS)))


def _exactly(pipe: int, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        if not (part := os.read(pipe, min(length - len(parts), 65536))):
            os._exit(1)
        parts += part
    return bytes(parts)
