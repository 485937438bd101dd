"""The server's own tools: what is on offer, what each answer has open of it, and how much of that there may be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from headwater.agent.budgets import Budgets
from headwater.agent.tool import Definition, Kind, Tool
from headwater.agent.toolbox import Toolbox
from headwater.errors import HeadwaterError, InputError
from headwater.serve.errors import RequestError
from headwater.serve.tool_wire import Tools

SESSIONS = 8


class ServerTools:
    """Of one server. Every answer has tools of its own, which end with it."""

    def __init__(self, kinds: Mapping[str, Kind] | None = None, budgets: Budgets | None = None,
                 sessions: int = SESSIONS) -> None:
        """kinds: by the `type` that requests give; budgets: of an answer, of which requests may ask for less; sessions:
        answers at once that may run processes."""
        self.kinds, self.budgets, self.sessions = dict(kinds or {}), budgets or Budgets(), sessions
        self.opened: set[OpenTools] = set()

    @property
    def running(self) -> int:
        """Answers that hold a place for a process."""
        return sum(one.process for one in self.opened)

    def require(self, asked: Tools) -> None:
        """Raises `RequestError` for a tool that the server does not have."""
        for number, tool in enumerate(asked.offered):
            if tool.type != "function" and tool.type not in self.kinds:
                known = ", ".join(["function", *self.kinds])
                raise RequestError(f"this server has no tool of type '{tool.type}': it has {known}",
                                   param=f"tools.{number}.type", code="unsupported_tool")

    async def open(self, names: Sequence[str], functions: Sequence[Definition]) -> OpenTools:
        """For one answer. functions: that the client carries out. Raises `RequestError`."""
        process = any(self.kinds[name].process for name in names)
        if process and self.running >= self.sessions:
            raise RequestError(f"{self.sessions} answers that may run programs are under way, the most this server has "
                               "at once; send the request again in a few seconds", status=429, param="tools",
                               code="sessions_full")
        opened = OpenTools(self, process)
        try:
            await opened.fill([self.kinds[name] for name in names], functions)
        except BaseException:
            await opened.close()
            raise
        return opened

    async def close(self) -> None:
        """End what is still open."""
        await asyncio.gather(*(one.close() for one in self.opened))


class OpenTools:
    """The tools of one answer."""

    def __init__(self, server: ServerTools, process: bool) -> None:
        self._server, self.process = server, process
        self._tools: list[Tool] = []
        self.box = Toolbox()
        server.opened.add(self)

    async def fill(self, kinds: Sequence[Kind], functions: Sequence[Definition]) -> None:
        """Raises `RequestError`."""
        for kind in kinds:
            try:
                self._tools.append(await kind.open())
            except HeadwaterError as error:
                raise RequestError(f"{kind.label}: {error}", status=503, param="tools",
                                   code="tool_unavailable") from None
        try:
            self.box = Toolbox(self._tools, functions)
        except InputError as error:
            raise RequestError(str(error), param="tools", code="invalid_value") from None

    async def close(self) -> None:
        """May be called twice."""
        try:
            await asyncio.gather(*(tool.close() for tool in self._tools))
        finally:
            self._server.opened.discard(self)
