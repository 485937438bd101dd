"""Brings the chat page's libraries from npm into headwater/serve/page/vendor, by the lock file beside this program.

npm checks every package against the lock's sha512. THIRD_PARTY.txt tells what is copied, from which package and under
which licence, files.json the files' own hashes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "headwater/serve/page/vendor"
COPIED = {
    "markdown-it": ["dist/browser/markdown-it.umd.min.js"],
    "dompurify": ["dist/purify.min.js"],
    "@highlightjs/cdn-assets": ["highlight.min.js"],
    "katex": ["dist/katex.min.js", "dist/katex.min.css", "dist/fonts/*.woff2"],
}
BUNDLED = ("entities", "linkify-it", "mdurl", "punycode.js", "uc.micro")
"""Packages that markdown-it's file for browsers holds."""


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, place)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                       cwd=place, check=True)
        modules = Path(place) / "node_modules"
        shutil.rmtree(PAGE, ignore_errors=True)
        for package, patterns in COPIED.items():
            _copy(modules / package, patterns)
        (PAGE / "THIRD_PARTY.txt").write_text(_notices(modules), encoding="utf-8")
    hashes = {file.relative_to(PAGE).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
              for file in sorted(PAGE.rglob("*")) if file.is_file()}
    (PAGE / "files.json").write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")


def _copy(package: Path, patterns: list[str]) -> None:
    for pattern in patterns:
        found = sorted(package.glob(pattern))
        assert found, f"{package.name} has no {pattern}"
        for file in found:
            target = PAGE / ("fonts" if file.suffix == ".woff2" else "") / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)


def _notices(modules: Path) -> str:
    locked = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    parts = ["What this folder holds that others wrote, unchanged, as published on npm, and under which licences.\n"]
    for package in (*COPIED, *BUNDLED):
        entry = locked[f"node_modules/{package}"]
        inside = " (inside markdown-it's file)" if package in BUNDLED else ""
        parts.append(f"{'=' * 100}\n{package} {entry['version']}{inside}\nlicence: {entry['license']}\n"
                     f"integrity: {entry['integrity']}\n\n{_licence(modules / package)}")
    parts.append(f"{'=' * 100}\nfonts/ (of katex): Copyright (c) 2009-2010, Design Science, Inc.; "
                 "Copyright (c) 2014-2018 Khan Academy;\nReserved Font Names as in each font's name table\n"
                 "licence: OFL-1.1\n\n" + (HERE / "OFL-1.1.txt").read_text(encoding="utf-8"))
    return "\n".join(parts)


def _licence(package: Path) -> str:
    [text, *_] = sorted(package.glob("LICENSE*"))  # of DOMPurify's two the first: the Apache License
    return text.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
