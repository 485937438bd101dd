"""Keys, time, pages elsewhere, and what is counted."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from headwater.generate import worker

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
CHAT, HELLO = "/v1/chat/completions", [{"role": "user", "content": "hello"}]


def chat(**asked: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": HELLO, "temperature": 0, **asked}


def post(server: Any, path: str, timeout: float = 30, **body: Any) -> Any:
    return httpx.post(server.url + path, json={"model": "tiny", **body}, timeout=timeout)


@contextmanager
def slowly(server: Any, seconds: float = 0.05) -> Iterator[None]:
    """Steps that take at least so long."""
    step = server.engine.step
    server.engine.step = lambda: (time.sleep(seconds), step())[1]
    yield
    server.engine.step = step


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def connected(server: Any) -> Iterator[socket.socket]:
    address = urlsplit(server.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(30)
        client.connect((address.hostname, address.port))
        yield client


@contextmanager
def unread(server: Any) -> Iterator[None]:
    """A client that asks for long answers with all that can be told of them, and reads none of it."""
    body = json.dumps(chat(stream=True, n=16, logprobs=True, top_logprobs=20)).encode()
    with connected(server) as client:
        client.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        yield


def ask(server: Any, key: str | None = None, **asked: Any) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.post(server.url + CHAT, json=chat(**asked), headers=headers, timeout=30)


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


def of_a_page(server: Any, **headers: str) -> int:
    """The status of a page's request, of a type that a browser sends without asking for leave before."""
    return httpx.post(server.url + CHAT, content=json.dumps(chat()), timeout=30,
                      headers={"content-type": "text/plain", **headers}).status_code


def test_connections_without_a_request_are_closed(run_folder: Path, serving: Any,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.serve.connections.SECONDS", 0.3)
    with serving(run_folder) as server, slowly(server, 0.1):
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address) as silent, socket.create_connection(address) as dribbling:
            dribbling.sendall(b"GET /health HTTP/1.1\r\nx: y")
            for one in (silent, dribbling):
                one.settimeout(20)
                assert one.recv(1000) == b""
        with httpx.Client(timeout=30) as client:  # one connection for both, and an answer longer than that
            assert client.post(server.url + CHAT, json=chat(max_tokens=8, logit_bias={"5": 100})).status_code == 200
            assert client.get(server.url + "/health").status_code == 200


def test_more_messages_than_tokens_fit_are_refused_unread(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, limits={"body": 1 << 20}) as server:
        answer = httpx.post(server.url + CHAT, json=chat(messages=[{"role": "user", "content": "a"}] * 20_000))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert "there are 20000 messages" in answer.json()["error"]["message"]


EVIL = "https://evil.example"


def test_without_keys_pages_of_other_sites_are_refused(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, origins=["https://one.example"], hosts=["127.0.0.1"]) as server:
        assert of_a_page(server) == of_a_page(server, origin=server.url) == 200
        assert of_a_page(server, origin="https://one.example") == 200
        assert of_a_page(server, origin="https://one.example", host="one.example") == 200  # behind a proxy
        for foreign in (EVIL, "null", "http://127.0.0.1:1", "", "http://["):
            assert of_a_page(server, origin=foreign) == 403
        rebound = "evil.example:" + server.url.rpartition(":")[2]
        assert of_a_page(server, host=rebound) == of_a_page(server, host=rebound, origin="http://" + rebound) == 403
        assert counts(server)['headwater_requests_refused_total{status="403"}'] == 7


@pytest.mark.parametrize(("options", "headers"), [({"origins": ["*"], "hosts": ["127.0.0.1"]}, {}),
                                                  ({"keys": ["key"]}, {"authorization": "Bearer key"})],
                         ids=["all", "key"])
def test_pages_that_may_or_know_a_key_are_answered(run_folder: Path, serving: Any, options: dict[str, Any],
                                                   headers: dict[str, str]) -> None:
    with serving(run_folder, **options) as server:
        assert of_a_page(server, origin=EVIL, **headers) == 200


def test_what_is_counted_agrees_with_what_is_told(run_folder: Path, serving: Any) -> None:
    with serving(run_folder) as server:
        answers = [ask(server, n=2).json()["usage"] for _ in range(3)]
        last = ask(server, stream=True, stream_options={"include_usage": True}).text.split("\n\n")[-3]
        answers.append(json.loads(last.removeprefix("data: "))["usage"])
        for more in ({"prompt": ["hello", "a river"], "n": 2}, {"prompt": "hello", "max_tokens": 0, "echo": True}):
            answers.append(post(server, "/v1/completions", **more).json()["usage"])
        answers.append(post(server, "/v1/embeddings", input="hello").json()["usage"])
        ask(server, temperature=-1)
        ask(server, model="other")
        found = counts(server)
    assert found["headwater_generation_tokens_total"] == sum(one.get("completion_tokens", 0) for one in answers)
    assert found["headwater_prompt_tokens_total"] == sum(one["prompt_tokens"] for one in answers)
    ended = sum(value for name, value in found.items() if name.startswith("headwater_request_success_total"))
    assert ended == found["headwater_time_to_first_token_seconds_count"] == 11
    assert found["headwater_e2e_request_latency_seconds_count"] == 11
    assert found["headwater_request_queue_time_seconds_count"] == 11
    assert found['headwater_requests_refused_total{status="400"}'] == 1
    assert found['headwater_requests_refused_total{status="404"}'] == 1
    assert found["headwater_num_requests_running"] == found["headwater_num_requests_waiting"] == 0
    assert found["headwater_kv_cache_usage_perc"] == 0


def test_a_working_server_tells_how_full_it_is_and_whom_it_sent_away(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, max_batch=1, max_queue=0, endless=True) as server, slowly(server), \
            httpx.stream("POST", server.url + CHAT, json=chat(stream=True)) as answer:
        lines = answer.iter_lines()
        while "content" not in (line := next(lines)) or '"content": ""' in line:
            pass
        assert ask(server).status_code == 429
        found = counts(server)
    assert found["headwater_num_requests_running"] == 1
    assert 0 < found["headwater_kv_cache_usage_perc"] < 1
    assert found['headwater_admission_rejections_total{reason="full"}'] == 1
    assert found['headwater_admission_rejections_total{reason="closing"}'] == 0


def test_metrics_are_open_where_settings_say_so(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, keys=["key"], open_metrics=True) as server:
        assert httpx.get(server.url + "/metrics").status_code == 200
        assert httpx.get(server.url + "/v1/models").status_code == 401
        for path in ("/tokenize", "/detokenize"):
            assert httpx.post(server.url + path, json={}).status_code == 401


def test_a_server_that_ends_finishes_what_it_began_and_refuses_what_comes(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, graceful=30) as server, slowly(server, 0.02):
        with httpx.stream("POST", server.url + CHAT, json=chat(stream=True), timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.server.should_exit = True
            until(lambda: not server.worker.accepting)
            late = ask(server)
            assert (late.status_code, late.json()["error"]["code"]) == (503, "closing")
            assert int(late.headers["retry-after"]) > 0
            ready, live = (httpx.get(server.url + path).status_code for path in ("/health", "/health/live"))
            assert (ready, live) == (503, 200)
            rest = "".join(lines)
        assert '"finish_reason": "stop"' in rest
        assert rest.endswith("data: [DONE]")


@pytest.mark.parametrize("stream", [True, False])
def test_answers_that_outlast_the_servers_end_are_ended_with_what_they_have(run_folder: Path, serving: Any,
                                                                            stream: bool) -> None:
    with serving(run_folder, graceful=0.3, endless=True) as server, slowly(server), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, server, stream=stream)
        until(lambda: server.engine.active)
        server.server.should_exit = True
        text = answer.result(30).text
    assert '"stop_reason":"closing"' in text.replace(": ", ":")
    assert not stream or text.endswith("[DONE]\n\n")


def test_a_client_that_does_not_read_is_left(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, endless=True, limits={"unread": 0.3}) as server, unread(server):
        until(lambda: server.engine.busy)
        until(lambda: not server.engine.busy)
        until(lambda: 'finished_reason="abort"' in httpx.get(server.url + "/metrics").text)


def test_what_waits_for_a_slow_reader_is_bounded(run_folder: Path, serving: Any,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEHIND", 20)
    longest = []
    put = worker.Ticket._put

    def measured(ticket: worker.Ticket, delta: Any) -> None:
        put(ticket, delta)
        longest.append(ticket._deltas.qsize())

    monkeypatch.setattr(worker.Ticket, "_put", measured)
    with serving(run_folder, endless=True, limits={"unread": 5}) as server, unread(server):
        until(lambda: server.engine.busy)
        until(lambda: not server.engine.busy)
    assert 20 <= max(longest) <= 21


def test_a_body_that_does_not_come_is_not_waited_for(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, limits={"seconds": 0.3}) as server, connected(server) as client:
        client.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{{".encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/completions", {"prompt": ["hello"] * 200, "echo": True, "logprobs": 1, "max_tokens": 0}),
    ("/v1/embeddings", {"input": ["hello"] * 200})])
def test_nothing_more_is_read_for_a_client_that_left(run_folder: Path, serving: Any, path: str,
                                                     body: dict[str, Any]) -> None:
    with serving(run_folder) as server:
        hidden, read = server.engine.model.hidden, []
        server.engine.model.hidden = lambda *given, **named: (read.append(time.sleep(0.05)), hidden(*given, **named))[1]
        with pytest.raises(httpx.ReadTimeout):
            post(server, path, timeout=0.5, **body)
        until(lambda: server.worker.idle)
        assert 0 < len(read) < 100


@pytest.mark.parametrize(("path", "body", "status", "code"), [
    (CHAT, {"messages": HELLO, "n": 17}, 400, "invalid_value"),
    ("/v1/completions", {"prompt": ["a"] * 100, "n": 3}, 400, "invalid_value"),
    ("/v1/completions", {"prompt": "a" * 30_000}, 413, "body_too_large"),
    (CHAT, {"messages": HELLO, "seed": int("9" * 4000)}, 400, "invalid_value")])
def test_too_much_in_one_request_is_told(server: Any, path: str, body: dict[str, Any], status: int, code: str) -> None:
    answer = post(server, path, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_number_that_python_does_not_read_is_the_clients_mistake(server: Any) -> None:
    answer = httpx.post(server.url + CHAT, content=b'{"seed": ' + b"9" * 5000 + b"}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_what_prompts_begin_with_is_read_once_and_told(run_folder: Path, serving: Any) -> None:
    turns = [{"role": "user", "content": "a river " * 100}]
    with serving(run_folder, kept_bytes=1 << 24) as server, serving(run_folder) as forgetful:
        first, again = (ask(server, messages=turns, max_tokens=8).json() for _ in range(2))
        wanted = ask(forgetful, messages=turns, max_tokens=8).json()
        both = {"prompt": ["a river " * 100, "hello"], "n": 2, "max_tokens": 4}
        completed = [post(server, "/v1/completions", **both).json()["usage"] for _ in range(2)]
        found = counts(server)
    length = first["usage"]["prompt_tokens"]
    assert length > 128
    told = [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in (first, again, wanted)]
    assert told == [0, 128, 0]
    assert first["choices"] == again["choices"] == wanted["choices"]
    assert [one["prompt_tokens_details"]["cached_tokens"] for one in completed] == [0, 128]
    assert found["headwater_prefix_cache_queries_total"] == 2 * length + 4 * completed[0]["prompt_tokens"]
    assert found["headwater_prefix_cache_hits_total"] == 128 + 2 * 128
