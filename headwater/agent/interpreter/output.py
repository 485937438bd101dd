"""What a cell prints, in bounded memory: how it begins, and how it ends."""

from __future__ import annotations


class Output:
    """Three quarters of the bytes are kept of the beginning and one of the end, where a traceback's reason is."""

    def __init__(self, most: int) -> None:
        self._tail_bytes = most // 4
        self._head_bytes = most - self._tail_bytes
        self._head, self._tail = bytearray(), bytearray()
        self._left_out = 0

    def add(self, part: bytes) -> None:
        room = self._head_bytes - len(self._head)
        self._head += part[:room]
        self._tail += part[room:]
        if (excess := len(self._tail) - self._tail_bytes) > 0:
            del self._tail[:excess]
            self._left_out += excess

    def text(self) -> str:
        """Bytes that are no UTF-8 are replaced; what is left out is said."""
        if not self._left_out:
            return (self._head + self._tail).decode("utf-8", "replace")
        head, tail = self._head.decode("utf-8", "replace"), self._tail.decode("utf-8", "replace")
        return f"{head}\n[... {self._left_out:,} bytes left out ...]\n{tail}"
