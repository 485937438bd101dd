"""Tools of MCP servers, local processes or streamable HTTP, as tools of a conversation. Needs the extra `mcp`.

A server is a stranger: it runs only where settings name it, only the tools that they list can be called, its words are
untrusted, and its tools have effects unless the settings say otherwise. What a server says about its own tools'
harmlessness is not asked for.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from headwater.agent.budgets import shortened
from headwater.agent.tool import Definition, Image, Observation, ToolError
from headwater.errors import HeadwaterError, InputError, MissingExtraError
from headwater.settings import Settings, nearest_name

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, ContentBlock

DESCRIPTION = 2000
"""Characters of a tool's description that the model reads."""
MOST_TOOLS = 10_000
"""A server that lists more is not listened to any further."""
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")


class McpSettings(Settings):
    """One server."""

    command: list[str] = []
    """A local server: the program and its arguments. It gets a few harmless variables of the environment, no others."""
    env: dict[str, str] = {}
    """Variables that a local server gets besides."""
    url: str | None = Field(default=None, pattern="^https?://")
    """A server over streamable HTTP. Redirects to other hosts are not followed."""
    headers: dict[str, str] = {}
    """Sent to a server over HTTP with every request, a key for example."""
    tools: list[str] = Field(min_length=1)
    """Tools that may be called, by the server's names; others are not offered."""
    harmless: list[str] = []
    """Those of them that change nothing anywhere: they need no approval once a page was read."""
    approval: list[str] = []
    """Those of them that a person must agree to each time."""
    prefix: str = ""
    """Put before the names, where several servers have the same."""
    seconds: float = Field(default=30, gt=0)
    """To connect, and for the server to answer."""
    longest: int = Field(default=20_000, ge=200)
    """Characters of an answer; the middle of a longer one is left out."""
    pictures: int = Field(default=4, ge=0)
    """Of an answer."""
    picture_bytes: int = Field(default=5_000_000, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == (self.url is not None):
            raise ValueError("a server has a command or a url, one of them")
        if self.headers and self.url is None:
            raise ValueError("headers are for a server with a url")
        if self.env and not self.command:
            raise ValueError("env is for a server with a command")
        for name in (*self.harmless, *self.approval):
            if name not in self.tools:
                raise ValueError(f"'{name}' is not one of its tools")
        return self


class McpTools:
    """A connected server's tools. Connect with `open`, end with `close`."""

    def __init__(self, settings: McpSettings, target: Any = None) -> None:
        """target: what to connect to instead of what the settings name, a server in this process say."""
        self._settings, self._target = settings, target
        self.definitions: tuple[Definition, ...] = ()
        self._client: Client | None = None
        self._ending = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, settings: McpSettings, target: Any = None) -> McpTools:
        """Raises `MissingExtraError`, and `InputError` where the server does not answer or lacks a tool."""
        tools = cls(settings, target)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # The connection belongs to one task, which opens and closes it; calls come from any.
        tools._owner = asyncio.create_task(tools._own(ready))
        try:
            await ready
        except BaseException:
            await tools.close()
            raise
        return tools

    async def _own(self, ready: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(self._settings.seconds) as opening, AsyncExitStack() as stack:
                client = await stack.enter_async_context(await _client(self._settings, self._target, stack))
                self.definitions = await self._offered(client)
                opening.reschedule(None)
                self._client = client
                ready.set_result(None)
                await self._ending.wait()
        except (InputError, MissingExtraError) as error:
            _fail(ready, error)
        except asyncio.CancelledError:
            ready.cancel()
            raise
        except Exception as error:  # of the transport, the protocol or the server
            first = _first(error)
            _fail(ready, first if isinstance(first, HeadwaterError) else InputError(
                f"the MCP server does not answer: {_said(first)}", where=self._name(),
                fix="try its command or URL alone, and see that it speaks MCP"))
        finally:
            self._client = None

    def _name(self) -> str:
        return self._settings.url or " ".join(self._settings.command)

    async def _offered(self, client: Client) -> tuple[Definition, ...]:
        """The allowed tools as the server describes them."""
        found: dict[str, Any] = {}
        cursor = None
        while True:
            page = await client.list_tools(cursor=cursor)
            found |= {tool.name: tool for tool in page.tools}
            cursor = page.next_cursor
            if cursor is None or len(found) > MOST_TOOLS:
                break
        for name in self._settings.tools:
            if name not in found:
                nearest = nearest_name(name, found)
                raise InputError(f"the MCP server has no tool '{name}'", where=self._name(), fix=f"did you mean "
                                 f"'{nearest}'?" if nearest else f"it has: {', '.join(sorted(found)[:20]) or 'none'}")
        return tuple(Definition(self._settings.prefix + name, shortened(found[name].description or "", DESCRIPTION),
                                found[name].input_schema, untrusted=True, approval=name in self._settings.approval,
                                effects=name not in self._settings.harmless) for name in self._settings.tools)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Observation:
        if self._client is None:
            raise ToolError("the MCP server has ended")
        try:
            result = await self._client.call_tool(name.removeprefix(self._settings.prefix), dict(arguments))
        except Exception as error:  # of the transport, the protocol or the server
            raise ToolError(f"the MCP server failed: {_said(_first(error))}") from error
        return self._observation(result)

    def _observation(self, result: CallToolResult) -> Observation:
        texts: list[str] = []
        images: list[Image] = []
        for block in result.content:
            image = self._image(block) if len(images) < self._settings.pictures else None
            if image is not None:
                images.append(image)
            else:
                texts.append(block.text if block.type == "text" else f"[{block.type} that cannot be shown]")
        text = "\n".join(texts) or ("A picture came back." if images else "Nothing came back.")
        return Observation(shortened(text, self._settings.longest), tuple(images), failed=result.is_error)

    def _image(self, block: ContentBlock) -> Image | None:
        """A picture of a kind and size that a page can show."""
        # Base64 has four letters for three bytes.
        if block.type != "image" or block.mime_type not in PICTURES or \
                len(block.data) > self._settings.picture_bytes * 4 // 3 + 4:
            return None
        try:
            return Image(base64.b64decode(block.data, validate=True), block.mime_type)
        except binascii.Error:
            return None

    async def close(self) -> None:
        self._ending.set()
        if self._owner is not None:
            if self._client is None:  # it may be connecting still
                self._owner.cancel()
            await asyncio.wait([self._owner])


async def _client(settings: McpSettings, target: Any, stack: AsyncExitStack) -> Client:
    """Not connected yet; what it needs is closed with the stack."""
    try:
        from mcp import Client, StdioServerParameters
        from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
    except ImportError:
        raise MissingExtraError("tools of MCP servers need the library mcp, which is not installed",
                                fix="pip install 'headwater[mcp]'") from None
    if target is None and settings.url is not None:
        http = await stack.enter_async_context(create_mcp_http_client(headers=settings.headers))
        target = streamable_http_client(settings.url, http_client=http)
    elif target is None:
        target = StdioServerParameters(command=settings.command[0], args=settings.command[1:], env=dict(settings.env))
    return Client(target, read_timeout_seconds=settings.seconds)


def _fail(ready: asyncio.Future[None], error: Exception) -> None:
    if not ready.done():
        ready.set_exception(error)


def _first(error: Exception) -> Exception:
    """What is at the bottom of a group of errors."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
