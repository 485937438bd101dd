"""Keys, time, pages elsewhere, and what is counted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
CHAT, HELLO = "/v1/chat/completions", [{"role": "user", "content": "hello"}]


def ask(server: Any, key: str | None = None, **asked: Any) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    body = {"model": "tiny", "messages": HELLO, "temperature": 0, **asked}
    return httpx.post(server.url + CHAT, json=body, headers=headers, timeout=30)


def counts(server: Any, **headers: str) -> dict[str, float]:
    text = httpx.get(server.url + "/metrics", headers=headers).text
    return {name: float(value) for name, value in re.findall(r"^(headwater_\S+) (\S+)$", text, re.MULTILINE)}


def test_requests_need_one_of_the_keys(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, keys=["first", "第二"]) as server:
        assert ask(server, "first").status_code == 200
        for wrong in (None, "fir", "first2", "FIRST"):
            refused = ask(server, wrong)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert httpx.get(server.url + "/v1/models").status_code == 401
        assert httpx.get(server.url + "/metrics").status_code == 401
        assert httpx.get(server.url + "/health").status_code == 200
        assert httpx.get(server.url + "/").status_code == 200
        assert counts(server, authorization="Bearer first")['headwater_requests_refused_total{status="401"}'] >= 5


def test_a_key_of_the_environment_is_asked_for(run_folder: Path) -> None:
    code = ("import sys; from pathlib import Path; from headwater.serve.server import ServeSettings, serve; "
            "serve(Path(sys.argv[1]), ServeSettings(port=0))")
    process = subprocess.Popen([sys.executable, "-c", code, str(run_folder)], stdout=subprocess.PIPE, text=True,
                               env=os.environ | {"HEADWATER_API_KEYS": "one,two",
                                                 "PYTHONPATH": str(Path(__file__).parents[2])})
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert httpx.get(url + "/v1/models").status_code == 401
        assert httpx.get(url + "/v1/models", headers={"authorization": "Bearer two"}).status_code == 200
    finally:
        process.terminate()
        process.wait(20)


def test_an_answer_ends_when_its_time_is_over(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, endless=True, limits={"seconds": 0.5}) as server:
        step = server.engine.step
        server.engine.step = lambda: (time.sleep(0.05), step())[1]
        found = ask(server).json()["choices"][0]
        assert (found["finish_reason"], found["stop_reason"]) == ("length", "timeout")
        streamed = ask(server, stream=True).text
        assert '"stop_reason": "timeout"' in streamed
        assert streamed.endswith("[DONE]\n\n")
        assert not server.engine.busy


@pytest.mark.parametrize(("origins", "allowed"), [((), None), (("https://one.example",), "https://one.example")])
def test_pages_elsewhere_may_ask_where_they_are_named(run_folder: Path, serving: Any, origins: tuple[str, ...],
                                                      allowed: str | None) -> None:
    with serving(run_folder, origins=origins) as server:
        for origin in ("https://one.example", "https://other.example"):
            answer = httpx.get(server.url + "/v1/models", headers={"origin": origin})
            assert answer.headers.get("access-control-allow-origin") == (allowed if origin == allowed else None)


def test_what_is_counted_agrees_with_what_is_told(run_folder: Path, serving: Any) -> None:
    with serving(run_folder) as server:
        answers = [ask(server, n=2).json()["usage"] for _ in range(3)]
        ask(server, temperature=-1)
        ask(server, model="other")
        found = counts(server)
    assert found["headwater_generation_tokens_total"] == sum(one["completion_tokens"] for one in answers)
    assert found["headwater_prompt_tokens_total"] == 2 * sum(one["prompt_tokens"] for one in answers)
    assert found['headwater_request_success_total{finished_reason="stop"}'] == 6
    assert found["headwater_time_to_first_token_seconds_count"] == 6
    assert found["headwater_e2e_request_latency_seconds_count"] == 6
    assert found['headwater_requests_refused_total{status="400"}'] == 1
    assert found['headwater_requests_refused_total{status="404"}'] == 1
    assert found["headwater_num_requests_running"] == found["headwater_num_requests_waiting"] == 0
