"""The server's own tools: what is on offer, what each answer has open of it, and how much of that there may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headwater.agent.budgets import Budgets
from headwater.agent.loop import Agent
from headwater.agent.tool import Definition, Kind, Tool
from headwater.agent.toolbox import Toolbox
from headwater.errors import HeadwaterError, InputError
from headwater.serve.errors import RequestError
from headwater.serve.tool_wire import Tools

SESSIONS, KEPT_SECONDS = 8, 600.0
WAITING = 64
"""Sessions that wait, of whatever tools: each may hold an open index or a connection."""


class Session(NamedTuple):
    """Of one asker: another's session of the same name is another."""

    name: str
    asker: int | None = None
    """By the number of the key, where the server has keys."""


class ServerTools:
    """Of one server. Every answer has tools of its own, which end with it, unless its request names a session: they
    wait for the session's next answer then, for a while."""

    def __init__(self, kinds: Mapping[str, Kind] | None = None, budgets: Budgets | None = None,
                 sessions: int = SESSIONS, kept_seconds: float = KEPT_SECONDS) -> None:
        """kinds: by the `type` that requests give; budgets: of an answer, of which requests may ask for less; sessions:
        that may run processes at once; kept_seconds: that a session waits for its next answer."""
        self.kinds, self.budgets, self.sessions = dict(kinds or {}), budgets or Budgets(), sessions
        self.kept_seconds = kept_seconds
        self.opened: set[OpenTools] = set()
        """Of answers under way."""
        self.kept: dict[Session, OpenTools] = {}
        """By session, that which has waited longest first."""

    @property
    def running(self) -> int:
        """Sessions, and answers without one, that hold a place for processes."""
        return sum(one.process for one in (*self.opened, *self.kept.values()))

    def require(self, asked: Tools) -> None:
        """Raises `RequestError` for a tool that the server does not have."""
        for number, tool in enumerate(asked.offered):
            if tool.type != "function" and tool.type not in self.kinds:
                known = ", ".join(["function", *self.kinds])
                raise RequestError(f"this server has no tool of type '{tool.type}': it has {known}",
                                   param=f"tools.{number}.type", code="unsupported_tool")

    async def open(self, names: Sequence[str], functions: Sequence[Definition], session: Session | None = None
                   ) -> OpenTools:
        """For one answer. functions: that the client carries out. Raises `RequestError`."""
        if session is not None and any(one.session == session for one in self.opened):
            raise RequestError("another answer of this session is under way; send the request again when it has ended",
                               status=409, param="session", code="session_busy")
        kept = None if session is None else self.kept.pop(session, None)
        opened = kept or OpenTools(self, session)
        opened.take()  # before anything is awaited, so that no other answer finds it
        try:
            await self._make_room(opened, any(self.kinds[name].process for name in names))
            await opened.fill(names, functions)
        except BaseException:
            await opened.leave()
            raise
        return opened

    async def _make_room(self, opened: OpenTools, process: bool) -> None:
        """A session that waits gives its place to an answer."""
        if opened.process or not process:
            return
        waiting = next((one for one in self.kept.values() if one.process), None)
        if self.running >= self.sessions and waiting is None:
            raise RequestError(f"{self.sessions} answers that may run programs are under way, the most this server has "
                               "at once; send the request again in a few seconds", status=429, param="tools",
                               code="sessions_full")
        opened.process = True
        if waiting is not None and self.running > self.sessions:
            await waiting.close()

    async def close(self) -> None:
        """End what is still open."""
        await asyncio.gather(*(one.close() for one in (*self.opened, *self.kept.values())))


class OpenTools:
    """The tools of one answer, or of a session's answers one after the other."""

    def __init__(self, server: ServerTools, session: Session | None) -> None:
        self._server, self.session = server, session
        self._tools: dict[str, Tool] = {}
        self._expiry: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closed = False
        self.process = False
        """Whether it holds a place for processes."""
        self.box = Toolbox()
        self.agent: Agent | None = None
        """Of the answer under way."""
        self.cut: Callable[[], None] = lambda: None
        """Ends the answer under way with what it has, as the server closes."""
        self.tainted = False
        """Whether others' words were read in the session."""

    def take(self) -> None:
        """For an answer."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._server.opened.add(self)

    async def fill(self, names: Sequence[str], functions: Sequence[Definition]) -> None:
        """Raises `RequestError`."""
        for name in names:
            if name in self._tools:
                continue
            kind = self._server.kinds[name]
            try:
                self._tools[name] = await kind.open()
            except HeadwaterError as error:
                raise RequestError(f"{kind.label}: {error}", status=503, param="tools",
                                   code="tool_unavailable") from None
        try:
            self.box = Toolbox([self._tools[name] for name in names], functions, held=True)
        except InputError as error:
            raise RequestError(str(error), param="tools", code="invalid_value") from None

    def begin(self, agent: Agent) -> None:
        """What the session has read counts for this answer, too."""
        self.agent = agent
        agent.tainted |= self.tainted

    async def leave(self) -> None:
        """The answer has ended: what belongs to a session waits for its next one, else it ends. May be called twice."""
        if self.session is None or not self._tools or self._server.kept_seconds <= 0:
            await self.close()
        elif not self._closed and self in self._server.opened:
            if self.agent is not None:
                self.tainted |= self.agent.tainted
            self._server.opened.discard(self)
            self._server.kept[self.session] = self
            self._expiry = asyncio.get_running_loop().call_later(self._server.kept_seconds, self._expire)
            if len(self._server.kept) > WAITING:
                await next(iter(self._server.kept.values())).close()

    def _expire(self) -> None:
        assert self.session is not None
        del self._server.kept[self.session]
        self._ending = asyncio.create_task(self.close())

    async def close(self) -> None:
        """End what it has started. May be called twice."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        if self.session is not None and self._server.kept.get(self.session) is self:
            del self._server.kept[self.session]
        try:
            await asyncio.gather(*(tool.close() for tool in self._tools.values()))
        finally:
            self._server.opened.discard(self)
