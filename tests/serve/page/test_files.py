"""What the page consists of, and how it is sent."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")

from headwater.serve.static import PAGE, POLICY  # noqa: E402

ROOT = Path(__file__).parents[3]
FILES = sorted(path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.is_file())
OWN = [name for name in FILES if not name.startswith("vendor/")]
VENDOR = PAGE / "vendor"


def test_every_file_is_sent_with_headers_that_forbid_what_comes_from_elsewhere(standin: Any) -> None:
    with httpx.Client(base_url=standin.url) as client:
        for name in FILES:
            address = "/" if name == "index.html" else f"/{name}"
            answer = client.get(address)
            assert (answer.status_code, answer.content) == (200, (PAGE / name).read_bytes()), name
            told = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
            assert told == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert client.get(address, headers={"if-none-match": answer.headers["etag"]}).status_code == 304


def test_the_policy_allows_nothing_from_elsewhere_and_no_inline_code() -> None:
    assert POLICY["default-src"] == "'none'"
    allowed = {source for name, sources in POLICY.items() if name != "trusted-types" for source in sources.split()}
    assert allowed == {"'none'", "'self'", "data:", "'script'"}
    assert [name for name, sources in POLICY.items() if "data:" in sources] == ["img-src"]


@pytest.mark.parametrize("address", ["/static.py", "/..%2fapp.py", "/js/..%2f..%2fapp.py", "/js/../../app.py", "/js/",
                                     "/vendor", "/fonts/KaTeX_Main-Regular.woff2", "/js/app.js%00.css"])
def test_nothing_but_the_pages_files_is_sent(standin: Any, address: str) -> None:
    answer = httpx.get(standin.url + address, follow_redirects=True)
    assert answer.status_code == 404


@pytest.mark.parametrize("name", OWN)
def test_our_own_files_name_no_address_elsewhere_and_stay_small(name: str) -> None:
    text = (PAGE / name).read_text(encoding="utf-8")
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert text.count("\n") <= 250


def test_brought_files_are_those_of_the_lock() -> None:
    hashes = json.loads((VENDOR / "files.json").read_text(encoding="utf-8"))
    present = {path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
               for path in VENDOR.rglob("*") if path.is_file() and path.name != "files.json"}
    assert present == hashes
    locked = json.loads((ROOT / "vendor/package-lock.json").read_text(encoding="utf-8"))["packages"]
    asked = json.loads((ROOT / "vendor/package.json").read_text(encoding="utf-8"))["dependencies"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in asked} == asked
    assert all(entry["integrity"].startswith("sha512-") for name, entry in locked.items() if name)
    assert not any("resolved" in entry for entry in locked.values())


def test_licences_stand_beside_what_they_are_of() -> None:
    told = (VENDOR / "THIRD_PARTY.txt").read_text(encoding="utf-8")
    locked = json.loads((ROOT / "vendor/package-lock.json").read_text(encoding="utf-8"))["packages"]
    heads = dict(re.findall(r"^={100}\n(\S+) (\S+)", told, flags=re.M))
    assert {"markdown-it", "dompurify", "@highlightjs/cdn-assets", "katex", "linkify-it", "entities"} <= heads.keys()
    for name, version in heads.items():
        if name != "fonts/":
            entry = locked[f"node_modules/{name}"]
            assert version == entry["version"]
            assert entry["integrity"] in told
    for words in ("Permission is hereby granted", "Apache License", "Redistribution and use", "SIL OPEN FONT LICENSE"):
        assert words in told


def test_files_that_the_brought_styles_need_are_there() -> None:
    styles = (VENDOR / "katex.min.css").read_text(encoding="utf-8")
    fonts = set(re.findall(r"url\((fonts/[^)]+\.woff2)\)", styles))
    assert fonts == {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*.woff2")}


def test_an_installed_package_has_the_whole_page() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["headwater"]
    package = ROOT / "headwater"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    # pathlib's own ** ends at folders before Python 3.13
    packed |= {path for pattern in patterns if pattern.endswith("/**") for path in package.glob(f"{pattern}/*")}
    assert {PAGE / name for name in FILES} <= packed
