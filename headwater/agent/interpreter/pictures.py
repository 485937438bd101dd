"""Pictures that a cell leaves: open figures, and image files in the working folder. Inside the walls; standard library
alone, and matplotlib where a cell has imported it."""

from __future__ import annotations

import io
import os
import stat
import sys

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_MOST_NAMES = 10_000


class Pictures:
    """Those that are new since the last cell: so many, each of so many bytes."""

    def __init__(self, folder: str, most: int, most_bytes: int) -> None:
        self._folder, self._most, self._most_bytes = folder, most, most_bytes
        self._seen: dict[str, tuple[int, int]] = {}
        self.files()

    def bounded(self, found: list[bytes]) -> tuple[list[bytes], int]:
        """Each once, and how many are left out."""
        distinct = list(dict.fromkeys(found))
        kept = [data for data in distinct if len(data) <= self._most_bytes][:self._most]
        return kept, len(distinct) - len(kept)

    def files(self) -> list[bytes]:
        """Image files that were written or changed; neither links nor anything but regular files. Of one that is too
        large a byte too much is read."""
        found = []
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry, _ in zip(entries, range(_MOST_NAMES)))
        except OSError:  # removed, or as many files are open as may be
            return []
        for name in names:
            if name.lower().endswith(ENDINGS) and (data := self._read(name)) is not None:
                found.append(data)
        return found

    def _read(self, name: str) -> bytes | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(os.path.join(self._folder, name), flags)
        except OSError:
            return None
        try:
            facts = os.fstat(file)
            stamp = facts.st_mtime_ns, facts.st_size
            if not stat.S_ISREG(facts.st_mode) or self._seen.get(name) == stamp:
                return None
            self._seen[name] = stamp
            with open(file, "rb", closefd=False) as stream:
                return stream.read(self._most_bytes + 1)
        finally:
            os.close(file)


def figures() -> list[bytes]:
    """Open figures of matplotlib, which are closed, as PNG."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    found = []
    try:
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            if figure.axes:
                stream = io.BytesIO()
                figure.savefig(stream, format="png")
                found.append(stream.getvalue())
    finally:
        pyplot.close("all")
    return found
