"""Which tools there are, by settings: what a server offers to requests, and a terminal to its conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Self

from pydantic import Field, field_validator, model_validator

from headwater.agent.browser.opening import BrowserSettings, open_browser
from headwater.agent.budgets import Budgets
from headwater.agent.images.cogview import Cogview
from headwater.agent.images.painter import CogviewSettings, Painter
from headwater.agent.interpreter.interpreter import Interpreter, InterpreterSettings
from headwater.agent.mcp import McpSettings, McpTools
from headwater.agent.tool import Kind, Tool
from headwater.settings import Settings
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.calls import format_for

OWN = ("function", "python", "browser", "cogview")
"""Words of requests that name no server of MCP."""
LONGER = "a longer one: context.length=4096 context.method=ntk"
"""What to do about a context that does not hold what a model is told of its tools."""


class ToolsSettings(Settings):
    """A tool is there where a setting of it is given; `--tools python,browser` stands for `tools.python={}
    tools.browser={}`."""

    python: InterpreterSettings | None = None
    """Programs that the model writes, in a sandbox; where none can be had nothing starts, unless forced."""
    browser: BrowserSettings | None = None
    """Pages that the model searches and reads: of an index (`headwater index`), and of the web where it is opened."""
    cogview: CogviewSettings | None = None
    """Pictures, drawn by a checkpoint that all conversations share."""
    mcp: dict[str, McpSettings] = {}
    """Servers of MCP, by the names by which requests ask for their tools."""
    budgets: Budgets = Field(default=Budgets())
    """Of one answer."""

    @property
    def programs(self) -> bool:
        """Whether a tool may run processes on this machine."""
        return self.python is not None or any(server.command for server in self.mcp.values())

    @model_validator(mode="after")
    def _budgets_are_of_something(self) -> Self:
        if self.model_fields_set == {"budgets"}:
            raise ValueError("budgets are of tools, and no tool is there")
        return self

    @field_validator("mcp")
    @classmethod
    def _names_are_free(cls, servers: dict[str, McpSettings]) -> dict[str, McpSettings]:
        if taken := [name for name in servers if name in OWN]:
            raise ValueError(f"'{taken[0]}' is a tool's own name: call the server otherwise")
        return servers


def kinds_of(settings: ToolsSettings) -> Mapping[str, Kind]:
    """By the words that ask for them, each opened once to see that it can be. Raises `InputError`,
    `MissingExtraError`, `ToolError`."""
    kinds: dict[str, Kind] = {}
    if (python := settings.python) is not None:
        kinds["python"] = Kind("runs Python", _later(lambda: Interpreter(python)), process=True)
    if (browser := settings.browser) is not None:
        kinds["browser"] = Kind("searches and reads pages", _later(lambda: open_browser(browser)))
    if settings.cogview is not None:
        painter = Painter(settings.cogview)
        kinds["cogview"] = Kind("draws pictures", _later(lambda: Cogview(painter)))
    for name, server in settings.mcp.items():
        kinds[name] = Kind(f"{name}: {', '.join(server.tools)}", _connecting(server), process=bool(server.command))
    return asyncio.run(_tried(kinds)) if kinds else kinds


def _later(make: Callable[[], Tool]) -> Callable[[], Awaitable[Tool]]:
    """In a thread, where files are read."""
    return lambda: asyncio.to_thread(make)


def _connecting(settings: McpSettings) -> Callable[[], Awaitable[Tool]]:
    return lambda: McpTools.open(settings)


async def _tried(kinds: Mapping[str, Kind]) -> Mapping[str, Kind]:
    found = {}
    for name, kind in kinds.items():
        tool = await kind.open()
        found[name] = replace(kind, definitions=tool.definitions)
        await tool.close()
    return found


def told_tokens(tokenizer: Tokenizer, kinds: Iterable[Kind]) -> int:
    """That a model reads of these tools before every conversation."""
    told = format_for(tokenizer.chat, [one for kind in kinds for one in kind.definitions]).system("")
    return 0 if told is None else len(tokenizer.chat.render([told]).ids)
