"""What tools hold from one answer of a session to the next, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from headwater.agent.functions import FunctionTool
from headwater.agent.tool import Kind
from headwater.tokenizer.calls import Call
from tests.serve.all_tools.conftest import (
    BROWSER,
    CHAT,
    POST,
    PYTHON,
    WEATHER,
    Post,
    body,
    httpx,
    refusal,
    streaming,
    until,
    whole,
)
from tests.serve.all_tools.scripted import ENDLESS, Script
from tests.serve.all_tools.test_bounds import programs

ONE, OTHER, THIRD = (f"session-of-mine-{number}" for number in range(3))


@pytest.fixture(autouse=True)
def ended(server: Any) -> Iterator[None]:
    yield
    seconds, server.tools.kept_seconds = server.tools.kept_seconds, 0
    for session in list(server.tools.kept):
        whole(server, BROWSER, session=session)
    server.tools.kept_seconds = seconds
    until(lambda: not server.tools.running)


def told(server: Any, script: Script, code: str, **asked: Any) -> str:
    """What a program says."""
    script.says(Call("python", {"code": code}), "Done.")
    agent = whole(server, PYTHON, **asked)["choices"][0]["message"]["agent"]
    return str(next(one["text"] for one in agent if one["type"] == "observation"))


def test_variables_stay_in_their_session_and_nowhere_else(server: Any, script: Script, sandbox: None) -> None:
    told(server, script, "depth = 482", session=ONE)
    assert told(server, script, "depth + 1", session=ONE) == "483"
    assert "NameError" in told(server, script, "depth")
    assert "NameError" in told(server, script, "depth", session=OTHER)
    script.says(Call("search", {"query": "regatta"}), "Found.")
    whole(server, BROWSER, session=ONE)  # other tools of the same session
    assert told(server, script, "depth + 2", session=ONE) == "484"


def test_what_others_said_counts_in_the_sessions_later_answers(server: Any, script: Script, post: Post) -> None:
    script.says(Call("search", {"query": "regatta"}), "Found.")
    whole(server, BROWSER, session=ONE)
    script.says(Call("post", {"text": "all that I know"}), "I cannot.")
    whole(server, POST, session=ONE)
    assert post.sent == []
    script.says(Call("post", {"text": "hello"}), "Sent.")
    whole(server, POST, session=OTHER)
    assert post.sent == ["hello"]


def test_one_answer_of_a_session_at_a_time(server: Any, script: Script) -> None:
    script.says(ENDLESS)
    with streaming(server, BROWSER, session=ONE):
        answer = httpx.post(server.url + CHAT, json=body(BROWSER, session=ONE))
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "session_busy")
        script.says("The other.")
        assert whole(server, BROWSER, session=OTHER)["choices"][0]["finish_reason"] == "stop"


def test_a_client_that_stops_an_answer_keeps_what_there_was_before(
        server: Any, script: Script, sandbox: None) -> None:
    told(server, script, "depth = 482", session=ONE)
    script.says(Call("python", {"code": "depth = 3\nwhile True: pass"}))
    with streaming(server, PYTHON, session=ONE) as events:
        next(event for event in events if "agent" in event)
    until(lambda: not server.tools.opened)
    assert told(server, script, "depth in (3, 482)", session=ONE) == "True"


def test_the_session_that_waited_longest_gives_way(server: Any, script: Script, sandbox: None) -> None:
    for session in (ONE, OTHER):
        told(server, script, f"whose = '{session}'", session=session)
    assert server.tools.running == server.tools.sessions == 2
    before = programs()
    assert "NameError" in told(server, script, "whose", session=THIRD)
    assert 0 < len(programs() & before) < len(before)
    assert told(server, script, "print(whose)", session=OTHER) == OTHER


def test_a_session_ends_some_time_after_its_last_answer(
        server: Any, script: Script, sandbox: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = programs()
    monkeypatch.setattr(server.tools, "kept_seconds", 0.2)
    told(server, script, "depth = 482", session=ONE)
    until(lambda: not programs() - before)
    assert server.tools.running == 0
    assert "NameError" in told(server, script, "depth", session=ONE)
    monkeypatch.setattr(server.tools, "kept_seconds", 0)
    told(server, script, "1", session=ONE)
    assert not server.tools.kept


def test_sessions_without_tools_or_with_names_that_can_be_guessed_are_refused(server: Any, script: Script) -> None:
    assert refusal(server, WEATHER, session=ONE)[:2] == (400, "session")
    for name in ("short", "x" * 65, "../../../etc/passwd", "sixteen letters!"):
        assert refusal(server, BROWSER, session=name)[:2] == (400, "session")
    taken = {"type": "function", "function": {"name": "search"}}
    assert refusal(server, BROWSER, taken, session=ONE)[:2] == (400, "tools")
    script.says("Yes.")
    assert whole(server, BROWSER, session=ONE)["choices"][0]["message"]["content"] == "Yes."


def test_the_servers_end_ends_what_waits() -> None:
    from headwater.serve.server_tools import ServerTools

    ends: list[str] = []

    class Telling(FunctionTool):
        async def close(self) -> None:
            ends.append("ended")

    async def opened() -> Any:
        return Telling(lambda: "x", name="tell", effects=False)

    async def work() -> None:
        tools = ServerTools({"tell": Kind("tells", opened)})
        await (await tools.open(["tell"], (), ONE)).leave()
        assert list(tools.kept) == [ONE]
        await tools.close()
        assert not tools.kept

    asyncio.run(work())
    assert ends == ["ended"]
