"""Which files of installed packages a session may read, and nothing else beside them."""

from __future__ import annotations

import functools
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path


@functools.cache
def found_packages(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The names that are installed; files and folders of them and of what they need; the folders that these are in.

    An extra's requirements are not followed. Metadata is left out: it can name where a package was fetched from.
    """
    known: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in known and (package := _installed(name)) is not None:
            known[name] = package
            waiting += [match[0] for line in package.requires or [] if "extra ==" not in line
                        and (match := re.match(r"[\w.-]+", line))]
    paths = sorted({place for package in known.values() for place in _places(package)})
    present = tuple(name for name in names if _installed(name) is not None)
    return present, tuple(map(str, paths)), tuple(sorted({str(path.parent) for path in paths}))


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _places(package: Distribution) -> set[Path]:
    """Each file or folder that the package has at the top."""
    tops = {file.parts[0] for file in package.files or []}
    places = {Path(str(package.locate_file(top))) for top in tops
              if not top.endswith((".dist-info", ".pth")) and top not in ("..", "__pycache__")}
    return {place for place in places if place.exists()}
