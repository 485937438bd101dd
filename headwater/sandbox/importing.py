"""Modules that walled code may import beside the standard library: those by name, and no others of the same folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder

from headwater.sandbox.protocol import Walls


class Allowed:
    """A finder. With the folders on `sys.path` another module there would be found, and then be refused to be read:
    libraries that do without it expect it not to be found."""

    def __init__(self, walls: Walls) -> None:
        self._folders = list(walls.import_from)
        self._names = {os.path.basename(path).split(".")[0] for path in walls.readable
                       if os.path.dirname(path) in walls.import_from}

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, self._folders) if path is None and name in self._names else None


def allow(walls: Walls) -> None:
    if walls.import_from:
        sys.meta_path.append(Allowed(walls))
