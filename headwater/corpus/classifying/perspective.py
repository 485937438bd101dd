"""The Perspective API as an engine that judges abuse: a service of Google's, asked passage by passage."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field

from headwater.errors import HeadwaterError, InputError, SettingsError
from headwater.settings import Settings

SERVICE = "https://commentanalyzer.googleapis.com/v1alpha1/comments:analyze"
KEY = "PERSPECTIVE_API_KEY"
_BUSY = {429, 500, 502, 503, 504}
_LONGEST = 20_000
"""Bytes of text that the service takes at once."""

Transport = Callable[[str, bytes, float], tuple[int, bytes]]
"""Posts a JSON body to a URL within so many seconds: (status, answer). Raises `OSError` when there is no answer."""


class PerspectiveSettings(Settings):
    """How often the service is asked, and how patiently."""

    attribute: str = "TOXICITY"
    """Which of the service's scores is taken."""
    per_second: Annotated[float, Field(gt=0)] = 1.0
    """Requests a second (the service's default quota is 1)."""
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """Further tries when the service is busy, each after twice the pause."""
    timeout: Annotated[float, Field(gt=0)] = 20.0
    """Seconds to wait for an answer."""
    longest: Annotated[int, Field(gt=0)] = 50
    """Passages of one document that are asked about; a longer one is judged by its first ones."""


class ServiceError(HeadwaterError):
    """The service gave no usable answer."""


class Perspective:
    """A client with a key. `transport`, `sleep` and `clock` are for tests and for proxies of one's own."""

    def __init__(self, key: str, settings: PerspectiveSettings | None = None, *, transport: Transport | None = None,
                 sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic) -> None:
        self._key, self.settings = key, settings or PerspectiveSettings()
        self._transport, self._sleep, self._clock = transport or post, sleep, clock
        self._next = clock()

    @classmethod
    def from_environment(cls, settings: PerspectiveSettings | None = None, *, transport: Transport | None = None
                         ) -> Perspective:
        """With the key from PERSPECTIVE_API_KEY. Raises `SettingsError` when it is not set."""
        key = os.environ.get(KEY, "")
        if not key:
            raise SettingsError("the Perspective engine needs a key", where=KEY,
                                fix=f"export {KEY}=..., or take the own engine (engine=own)")
        return cls(key, settings, transport=transport)

    def __repr__(self) -> str:
        return "Perspective(key hidden)"

    def scores(self, texts: Sequence[str], language: str) -> list[float]:
        """The score in [0, 1] of each text; 0 for those beyond the limit and for languages the service refuses.

        Raises `ServiceError` when the service refuses the key or stays busy.
        """
        return [self._score(text, language) if number < self.settings.longest else 0.0
                for number, text in enumerate(texts)]

    def _score(self, text: str, language: str) -> float:
        attribute = self.settings.attribute
        body = {"comment": {"text": text.encode()[:_LONGEST].decode(errors="ignore")},
                "requestedAttributes": {attribute: {}}, "doNotStore": True}
        if language in ("en", "zh"):
            body["languages"] = [language]
        answer = self._ask(body)
        if answer is None:
            return 0.0
        try:
            score = float(answer["attributeScores"][attribute]["summaryScore"]["value"])
        except (KeyError, TypeError, ValueError):
            raise ServiceError("the service's answer holds no score", where=SERVICE,
                               fix=f"check that it knows the attribute {attribute}") from None
        return min(1.0, max(0.0, score))

    def _ask(self, body: dict[str, Any]) -> dict[str, Any] | None:
        content, pause = json.dumps(body).encode(), 1.0
        for left in range(self.settings.retries, -1, -1):
            self._wait_for_turn()
            try:
                status, answer = self._transport(f"{SERVICE}?key={self._key}", content, self.settings.timeout)
            except OSError as error:
                status, answer = 503, str(error).replace(self._key, "***").encode()
            if status == 200:
                return _parsed(answer)
            if status == 400 and b"LANGUAGE_NOT_SUPPORTED" in answer:
                return None
            if status not in _BUSY:
                raise ServiceError(f"the service answered {status}: {_excerpt(answer)}", where=SERVICE,
                                   fix=f"check {KEY} and that its project may use the service")
            if left:
                self._sleep(pause)
                pause *= 2
        raise ServiceError(f"the service gave no answer in {self.settings.retries + 1} tries: {_excerpt(answer)}",
                           where=SERVICE, fix="try later, lower perspective.per_second or raise perspective.retries")

    def _wait_for_turn(self) -> None:
        now = self._clock()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.settings.per_second


def post(url: str, body: bytes, timeout: float) -> tuple[int, bytes]:
    """The standard transport."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        return error.code, error.read(1 << 16)


def _parsed(answer: bytes) -> dict[str, Any]:
    try:
        value = json.loads(answer)
    except ValueError:
        raise InputError("the service's answer is not JSON", where=SERVICE, fix="check proxies on the way") from None
    return value if isinstance(value, dict) else {}


def _excerpt(answer: bytes) -> str:
    return " ".join(answer.decode(errors="replace").split())[:200]
