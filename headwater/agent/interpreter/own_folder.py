"""A session's folder on the disk, where it has no file system of its own: made, looked after, removed."""

from __future__ import annotations

import os
import tempfile

from headwater.sandbox.protocol import Walls


class OwnFolder:
    """Goes with `close`, or with this object."""

    def __init__(self, walls: Walls) -> None:
        self._walls = walls
        self._folder = tempfile.TemporaryDirectory(prefix="session-", ignore_cleanup_errors=True)
        self.path = self._folder.name

    def excess(self) -> str:
        """What is beyond its bounds, or "". Limits of the process hold for each file, not for all together."""
        size = count = 0
        waiting = [self.path]
        while waiting:
            try:
                with os.scandir(waiting.pop()) as entries:
                    for entry in entries:
                        count += 1
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        if count > self._walls.entries:
                            return f"it made more than {self._walls.entries:,} files"
            except OSError:  # just removed
                continue
        return f"it wrote more than {self._walls.disk >> 20} MiB" if size > self._walls.disk else ""

    def close(self) -> None:
        self._folder.cleanup()
