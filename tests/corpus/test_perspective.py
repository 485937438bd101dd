"""Breaks when the key leaks, a busy service is not asked again, or a bad answer becomes a score."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from headwater.corpus.classifying import perspective
from headwater.corpus.classifying.perspective import Perspective, PerspectiveSettings, ServiceError
from headwater.corpus.classifying.toxicity import ToxicityJudge, ToxicitySettings
from headwater.errors import SettingsError


def answer(value: float) -> tuple[int, bytes]:
    return 200, json.dumps({"attributeScores": {"TOXICITY": {"summaryScore": {"value": value}}}}).encode()


class Service:
    """Plays back answers and keeps what it was asked."""

    def __init__(self, *answers: tuple[int, bytes] | OSError) -> None:
        self.answers, self.asked, self.pauses = list(answers), [], []

    def __call__(self, url, body, timeout):
        self.asked.append((url, json.loads(body)))
        one = self.answers.pop(0)
        if isinstance(one, OSError):
            raise one
        return one

    def client(self, **settings) -> Perspective:
        return Perspective("secret", PerspectiveSettings(**settings), transport=self, sleep=self.pauses.append,
                           clock=lambda: 0.0)


def test_each_text_is_asked_about_in_its_language():
    service = Service(answer(0.1), answer(0.9))
    assert service.client().scores(["a", "b"], "zh") == [0.1, 0.9]
    assert [body["comment"]["text"] for _, body in service.asked] == ["a", "b"]
    assert all(body["languages"] == ["zh"] and body["doNotStore"] for _, body in service.asked)


def test_a_busy_service_is_asked_again_after_longer_pauses():
    service = Service((429, b"slow down"), OSError("reset"), answer(0.5))
    assert service.client(per_second=1e9).scores(["a"], "en") == [0.5]
    assert [pause for pause in service.pauses if pause >= 1] == [1.0, 2.0]


def test_requests_keep_to_the_rate():
    service = Service(answer(0), answer(0), answer(0))
    service.client(per_second=2).scores(["a", "b", "c"], "en")
    assert service.pauses == [0.5, 1.0]


@pytest.mark.parametrize("answers", [[(403, b"key refused")], [(200, b"{}")], [(503, b"")] * 3,
                                     [OSError("secret")] * 3])
def test_no_usable_answer_is_an_error_that_hides_the_key(answers):
    with pytest.raises(ServiceError) as error:
        Service(*answers).client(retries=2).scores(["a"], "en")
    assert "secret" not in str(error.value)


def test_a_language_the_service_refuses_scores_nothing():
    assert Service((400, b'"errorType": "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"')).client().scores(["a"], "zh") == [0.0]


def test_passages_beyond_the_limit_are_not_asked_about():
    service = Service(answer(0.3))
    assert service.client(longest=1).scores(["a", "b", "c"], "en") == [0.3, 0.0, 0.0]


def test_without_a_key_the_engine_is_refused(monkeypatch):
    monkeypatch.delenv(perspective.KEY, raising=False)
    with pytest.raises(SettingsError, match="needs a key"):
        ToxicityJudge(ToxicitySettings(engine="perspective"))


def test_the_judge_takes_the_service_for_its_scores():
    service = Service(answer(0.2), answer(0.95))
    judge = ToxicityJudge(ToxicitySettings(engine="perspective"), perspective=service.client())
    verdict = judge("A calm line of text.\nAnother line of text.", "en")
    assert (verdict.score, verdict.toxic) == (0.95, True)
    assert verdict.passages[0].start > 0


def test_the_standard_transport_speaks_http_and_returns_error_answers(monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = answer(0.75) if body["comment"]["text"] == "good" else (400, b"LANGUAGE_NOT_SUPPORTED")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(perspective, "SERVICE", f"http://127.0.0.1:{server.server_port}/analyze")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv(perspective.KEY, "k")
    try:
        client = Perspective.from_environment(PerspectiveSettings(per_second=1000))
        assert client.scores(["good", "other"], "en") == [0.75, 0.0]
    finally:
        server.shutdown()
        server.server_close()
