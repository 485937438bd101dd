from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.page.standin import Standin, standing_in

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def _standing() -> Iterator[Standin]:
    pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
    with standing_in() as standin:
        yield standin


@pytest.fixture
def standin(_standing: Standin) -> Standin:
    fresh = Standin(url=_standing.url)
    for name, value in vars(fresh).items():
        setattr(_standing, name, value)
    return _standing


class Guard:
    """Notes what no page may do: fail, open dialogs, ask anybody but its server, or break its own policy."""

    def __init__(self, page: Any, origin: str) -> None:
        self.seen: list[str] = []
        page.on("pageerror", lambda error: self.seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.seen.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: self._asked(asked.url, origin))
        page.on("console", lambda message: self._said(message.text))

    def _asked(self, url: str, origin: str) -> None:
        if not url.startswith((origin, "data:", "blob:")):
            self.seen.append(f"request: {url}")

    def _said(self, text: str) -> None:
        if "Content Security" in text or "Trusted" in text:
            self.seen.append(text)


@pytest.fixture
def open_chat(browser: Any, standin: Standin) -> Iterator[Any]:
    """Opens the page over the stand-in, in a context of its own; whatever the guard has seen fails the test."""
    opened: list[tuple[Any, Guard]] = []

    def open_(**options: Any) -> Any:
        context = browser.new_context(**{"locale": "en-US", **options})
        page = context.new_page()
        page.set_default_timeout(10_000)
        opened.append((context, Guard(page, standin.url)))
        page.goto(standin.url)
        page.wait_for_function("document.querySelector('#model').textContent !== ''")
        return page

    yield open_
    for context, guard in opened:
        context.close()
        assert guard.seen == []


@pytest.fixture
def chat(open_chat: Any) -> Any:
    return open_chat()
