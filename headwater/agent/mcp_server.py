"""Headwater's stages for other programs: an MCP server over standard input and output. Needs the extra `mcp`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import __version__
from headwater.agent.stage_jobs import Stage, StageTools
from headwater.agent.tool import Tool, ToolError
from headwater.errors import InputError, MissingExtraError
from headwater.settings import Settings, nearest_name
from headwater.tokenizer.calls.schema import Checker

if TYPE_CHECKING:
    from mcp.server import Server


class McpServeSettings(Settings):
    """What is offered."""

    stages: list[str] = []
    """By name; empty: all."""


def serve(folder: Path, stages: Iterable[Stage], settings: McpServeSettings) -> None:
    """Serve one client until it leaves. Raises `InputError` for a folder that is not there or a stage that is none,
    `MissingExtraError`."""
    known = {stage.name: stage for stage in stages}
    for name in settings.stages:
        if name not in known:
            nearest = nearest_name(name, known)
            raise InputError(f"'{name}' is no stage", where="stages", fix=f"did you mean '{nearest}'?" if nearest
                             else f"known: {', '.join(known)}")
    if not folder.is_dir():
        raise InputError("no such folder", where=folder, fix="give the folder in which stages may work")
    chosen = [known[name] for name in settings.stages] or list(known.values())
    asyncio.run(_serve(folder, chosen))


async def _serve(folder: Path, stages: list[Stage]) -> None:
    tools = StageTools(folder, stages)
    server = server_of(tools)
    from mcp.server.stdio import stdio_server

    try:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        await tools.close()


def server_of(tool: Tool) -> Server[Any]:
    """An MCP server of a tool's functions. Raises `MissingExtraError`."""
    try:
        from mcp import types
        from mcp.server import Server
    except ImportError:
        raise MissingExtraError("serving stages needs the library mcp, which is not installed",
                                fix="pip install 'headwater[mcp]'") from None
    checkers = {one.name: Checker(one.parameters, where=one.name) for one in tool.definitions}

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[
            types.Tool(name=one.name, description=one.description, input_schema=dict(one.parameters))
            for one in tool.definitions])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        text, failed = await _call(tool, checkers, params.name, params.arguments or {})
        return types.CallToolResult(content=[types.TextContent(text=text)], is_error=failed)

    return Server("headwater", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


async def _call(tool: Tool, checkers: dict[str, Checker], name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """What is said to the client, and whether the call failed."""
    if name not in checkers:
        return f"there is no tool named '{name}'", True
    if mistakes := checkers[name].mistakes(arguments):
        return f"the arguments do not fit: {'; '.join(mistakes)}", True
    try:
        found = await tool.call(name, arguments)
    except ToolError as error:
        return str(error), True
    return found.text, found.failed
