"""What tools hold from one answer of a session to the next, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headwater.agent.functions import FunctionTool
from headwater.agent.tool import Kind, ToolError
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
        whole(server, BROWSER, session=session.name, max_tokens=1)
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


class Telling(FunctionTool):
    """A tool without a process, which says when it ends."""

    def __init__(self, ends: list[object]) -> None:
        super().__init__(lambda: "x", name="tell", effects=False)
        self._ends = ends

    async def close(self) -> None:
        self._ends.append(self)


@pytest.fixture
def ends() -> list[object]:
    return []


@pytest.fixture
def telling(ends: list[object]) -> Any:
    """A server's tools, without a server."""
    from headwater.serve.server_tools import ServerTools

    async def opened() -> Any:
        return Telling(ends)

    async def cannot() -> Any:
        raise ToolError("it is not there")

    return ServerTools({"tell": Kind("tells", opened), "broken": Kind("is broken", cannot)})


def test_the_servers_end_ends_what_waits(telling: Any, ends: list[object]) -> None:
    from headwater.serve.server_tools import Session

    async def work() -> None:
        await (await telling.open(["tell"], (), Session(ONE))).leave()
        assert list(telling.kept) == [(ONE, None)]
        await telling.close()

    asyncio.run(work())
    assert len(ends) == 1
    assert not telling.kept


def test_so_many_sessions_wait_and_no_more(telling: Any, ends: list[object]) -> None:
    from headwater.serve.server_tools import WAITING, Session

    async def work() -> None:
        for number in range(WAITING + 3):
            await (await telling.open(["tell"], (), Session(f"session {number}"))).leave()
        assert next(iter(telling.kept)).name == "session 3"
        assert len(telling.kept) == WAITING
        await telling.close()

    asyncio.run(work())
    assert len(set(map(id, ends))) == WAITING + 3


def test_a_session_belongs_to_the_key_that_began_it(run_folder: Path, serving: Any, telling: Any) -> None:
    with serving(run_folder, tools=telling, keys=["alice", "bob"]) as server:
        for key in ("alice", "bob", "alice"):
            answer = httpx.post(server.url + CHAT, headers={"authorization": f"Bearer {key}"},
                                json=body({"type": "tell"}, session=ONE, max_tokens=1), timeout=60)
            assert answer.status_code == 200, answer.text
        assert sorted(telling.kept) == [(ONE, 0), (ONE, 1)]


def test_a_session_whose_tools_cannot_be_had_does_not_wait(telling: Any) -> None:
    from headwater.serve.errors import RequestError
    from headwater.serve.server_tools import Session

    async def work() -> None:
        with pytest.raises(RequestError, match="is broken"):
            await telling.open(["broken"], (), Session(ONE))
        assert not telling.kept
        assert not telling.opened

    asyncio.run(work())
