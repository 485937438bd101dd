"""What ends the work of the server's tools, bounds it and refuses it."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from headwater.tokenizer.calls import Call
from tests.serve.all_tools.conftest import (
    BROWSER,
    CHAT,
    PYTHON,
    WEATHER,
    body,
    httpx,
    joined,
    refusal,
    streaming,
    until,
    whole,
)
from tests.serve.all_tools.scripted import ENDLESS, Script


def programs() -> set[int]:
    """Processes of interpreter sessions on this machine."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"headwater.agent.interpreter.worker" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_ends_the_program_at_once(
        server: Any, script: Script, sandbox: None, stream: bool) -> None:
    before = programs()
    code = "while True:\n    try:\n        while True: pass\n    except BaseException: 0"
    script.says(Call("python", {"code": code}))
    address, sent = urlsplit(server.url), json.dumps(body(PYTHON, stream=stream)).encode()
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(sent)}\r\n\r\n".encode() + sent)
        until(lambda: programs() - before)
    until(lambda: not programs() - before and not server.tools.opened and not server.engine.active)
    script.says("Still here.")
    assert whole(server, PYTHON)["choices"][0]["message"]["content"] == "Still here."


def test_a_client_that_leaves_frees_the_models_slot(server: Any, script: Script) -> None:
    script.says(ENDLESS)
    with streaming(server, BROWSER) as events:
        for _, _event in zip(range(5), events):
            pass
    until(lambda: server.engine.active == 0)
    assert not server.tools.opened


def test_sessions_are_bounded_and_a_further_request_is_told_so(server: Any, script: Script, sandbox: None) -> None:
    script.says(ENDLESS)
    with streaming(server, PYTHON), streaming(server, PYTHON):
        answer = httpx.post(server.url + CHAT, json=body(PYTHON))
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "sessions_full")
        assert "2 answers that may run programs" in answer.json()["error"]["message"]
        script.says("The browser is no program.")
        assert whole(server, BROWSER)["choices"][0]["finish_reason"] == "stop"
        assert "headwater_tool_sessions 2.0" in httpx.get(server.url + "/metrics").text
    until(lambda: server.tools.running == 0)


def test_budgets_bound_an_answer_and_are_told(server: Any, script: Script) -> None:
    look = Call("search", {"query": "regatta"})
    script.says(*(Call("search", {"query": f"regatta {number}"}) for number in range(9)))
    choice = whole(server, BROWSER, budgets={"steps": 2})["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "steps")
    assert choice["message"]["agent"][-1] == {"type": "budget", "what": "steps"}
    assert len(script.read) == 2
    script.says(ENDLESS)
    found = whole(server, BROWSER, budgets={"tokens": 7})
    assert (found["choices"][0]["finish_reason"], found["usage"]["completion_tokens"]) == ("length", 7)
    script.says(look, ENDLESS)
    found = whole(server, BROWSER, max_tokens=60)  # of both turns together
    assert (found["choices"][0]["finish_reason"], found["usage"]["completion_tokens"]) == ("length", 60)
    script.says(ENDLESS)
    choice = whole(server, BROWSER, budgets={"seconds": 0.3})["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "timeout")
    script.says(Call("mclick", {"ids": [99]}))
    choice = whole(server, BROWSER)["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "repeated")


def test_what_cannot_be_is_refused_by_its_name(server: Any, script: Script) -> None:
    script.says("Yes.")
    known = ", ".join(server.tools.kinds)
    status, param, message = refusal(server, BROWSER, {"type": "cinema"})
    assert (status, param) == (400, "tools.1.type")
    assert message == f"this server has no tool of type 'cinema': it has function, {known}"
    assert refusal(server, {"type": "cinema"}, tool_choice="none")[0] == 400
    assert refusal(server, BROWSER, n=2)[:2] == (400, "n")
    assert refusal(server, BROWSER, logprobs=True)[:2] == (400, "logprobs")
    assert refusal(server, BROWSER, stop="x")[:2] == (400, "stop")
    assert refusal(server, WEATHER, budgets={"steps": 1})[:2] == (400, "budgets")
    assert refusal(server, BROWSER, budgets={"steps": 7})[:2] == (400, "budgets.steps")
    assert refusal(server, {**BROWSER, "function": {"name": "x"}})[:2] == (400, "tools.0.function")
    named = {"type": "function", "function": {"name": "python"}}
    assert refusal(server, BROWSER, tool_choice=named)[:2] == (400, "tool_choice")
    taken = {"type": "function", "function": {"name": "search"}}
    assert refusal(server, BROWSER, taken)[1:] == ("tools", "two tools are named 'search'\n  to do: give each a name "
                                                   "of its own")
    long = [{"role": "user", "content": "山" * 20_000}]
    answer = httpx.post(server.url + CHAT, json=body(BROWSER, messages=long), timeout=60).json()["error"]
    assert (answer["code"], answer["param"]) == ("context_length_exceeded", "messages")
    assert not script.read
    assert not server.tools.opened


def test_a_full_queue_refuses_a_new_request_and_lets_an_accepted_one_wait(gated: Any) -> None:
    server, gate, script = gated()
    script.says(lambda text: ENDLESS if "busy" in text else "Done." if "<|observation|>" in text else Call("wait", {}))
    with streaming(server, {"type": "gate"}) as working:
        assert next(event for event in working if "agent" in event)["agent"]["name"] == "wait"
        with streaming(server, messages=[{"role": "user", "content": "busy"}]) as busy:
            next(busy)
            until(lambda: server.engine.active)
            for stream in (True, False):
                refused = httpx.post(server.url + CHAT, json=body({"type": "gate"}, stream=stream))
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
            gate.open.set()
            assert "observation" in str(next(event for event in working if "agent" in event))
        text, _, ending = joined(list(working))
        assert (text, ending) == ("Done.", {"finish_reason": "stop"})


def test_a_closing_server_finishes_the_work_that_it_accepted(gated: Any) -> None:
    server, gate, script = gated(graceful=20)
    script.says(Call("wait", {}), "In time.")
    with streaming(server, {"type": "gate"}) as events:
        assert next(event for event in events if "agent" in event)["agent"]["name"] == "wait"
        server.server.should_exit = True
        until(lambda: httpx.get(server.url + "/health").status_code == 503)
        refused = httpx.post(server.url + CHAT, json=body())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "closing")
        gate.open.set()
        text, _, ending = joined(list(events))
    assert (text, ending) == ("In time.", {"finish_reason": "stop"})


@pytest.mark.parametrize("more", [{}, {"session": "session-that-ends"}], ids=["answer", "session"])
def test_a_closing_server_ends_work_that_takes_too_long_with_what_it_has(gated: Any, more: dict[str, str]) -> None:
    server, gate, script = gated(graceful=0.2)
    script.says(Call("wait", {}))
    with ThreadPoolExecutor() as pool, streaming(server, {"type": "gate"}, **more) as events:
        assert next(event for event in events if "agent" in event)["agent"]["name"] == "wait"
        unstreamed = pool.submit(whole, server, {"type": "gate"})
        until(lambda: len(script.read) == 2)
        server.server.should_exit = True
        text, agent, ending = joined(list(events))
        [choice] = unstreamed.result()["choices"]
        gate.open.set()
    assert (text, agent) == ("", [])
    assert ending == {"finish_reason": "length", "stop_reason": "closing"}
    assert choice == choice | ending
    assert [one["type"] for one in choice["message"]["agent"]] == ["call"]
