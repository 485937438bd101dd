"""The tools of a conversation: found by name, arguments checked, what goes wrong told to the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from headwater.agent.budgets import Budgets, Meter, OutOfTime, TooLong, shortened
from headwater.agent.permission import Permission
from headwater.agent.tool import Definition, Observation, Tool
from headwater.errors import HeadwaterError, InputError
from headwater.progress import say
from headwater.settings import nearest_name
from headwater.tokenizer.calls import Call, Malformed
from headwater.tokenizer.calls.schema import Checker


class Toolbox:
    """Tools that the loop calls, and functions that the caller carries out itself. Closes its tools."""

    def __init__(self, tools: Iterable[Tool] = (), functions: Sequence[Definition] = (), *,
                 permission: Permission | None = None, held: bool = False) -> None:
        """held: the functions' schemas are strangers', whose calls a constraint holds to them: they are not read here,
        where some would take for ever. Raises `InputError` for two of one name and for parameters that are no JSON
        Schema."""
        self._tools = tuple(tools)
        self.permission = permission or Permission()
        self._owner: dict[str, Tool] = {}
        self.definitions: dict[str, Definition] = {}
        for tool in self._tools:
            for one in tool.definitions:
                self._define(one)
                self._owner[one.name] = tool
        for one in functions:
            self._define(one)
        self._checkers = {name: Checker(one.parameters, where=name) for name, one in self.definitions.items()
                          if name in self._owner or not held}

    def _define(self, definition: Definition) -> None:
        if definition.name in self.definitions:
            raise InputError(f"two tools are named '{definition.name}'", fix="give each a name of its own")
        self.definitions[definition.name] = definition

    @property
    def offered(self) -> list[Definition]:
        """What the model is told of."""
        return [one for one in self.definitions.values() if self.permission.allows(one.name)]

    def by_caller(self, name: str) -> bool:
        """Whether the caller carries out calls of this name."""
        return name in self.definitions and name not in self._owner and self.permission.allows(name)

    def wrong(self, call: Call | Malformed) -> str:
        """Why a call cannot be carried out, for the model to read; empty where it can."""
        if isinstance(call, Malformed):
            return f"This call cannot be read: {call.wrong}."
        names = [one.name for one in self.offered]
        if call.name not in self.definitions:
            nearest = nearest_name(call.name, names)
            return f"There is no tool named '{call.name}'. " + (
                f"Did you mean '{nearest}'?" if nearest else f"There are: {', '.join(names) or 'none'}.")
        if not self.permission.allows(call.name):
            return f"The user has not allowed '{call.name}'."
        mistakes = self._checkers[call.name].mistakes(call.arguments) if call.name in self._checkers else []
        return f"The arguments do not fit: {'; '.join(mistakes)}." if mistakes else ""

    async def call(self, call: Call, meter: Meter, *, tainted: bool) -> Observation:
        """What a call that fits gives back, or why it gave nothing. Raises `OutOfTime`."""
        definition = self.definitions[call.name]
        refusal = await meter.within(self.permission.refusal(definition, call.arguments, tainted=tainted))
        if refusal is not None:
            return Observation(refusal, failed=True)
        seconds = meter.budgets.tool_seconds
        try:
            found = await meter.within(self._owner[call.name].call(call.name, call.arguments), seconds)
        except TooLong:
            return Observation(f"'{call.name}' took longer than {seconds:g} seconds and was stopped.", failed=True)
        except OutOfTime:
            raise
        except HeadwaterError as error:
            return Observation(str(error), failed=True)
        except Exception as error:  # a tool's own mistake ends its call, not the conversation
            say(f"tool {call.name}: {type(error).__name__}: {error}")
            return Observation(f"'{call.name}' failed: {type(error).__name__}: {error}", failed=True)
        return found

    async def close(self) -> None:
        """End what every tool started; of several failures the first is raised, after all were asked to end."""
        ended = await asyncio.gather(*(tool.close() for tool in self._tools), return_exceptions=True)
        for one in ended:
            if isinstance(one, BaseException):
                raise one

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()


def readable(observation: Observation, budgets: Budgets) -> Observation:
    """As the model can read it: valid Unicode, and not too long."""
    text = observation.text.encode("utf-8", "replace").decode()
    return replace(observation, text=shortened(text, budgets.observation))


def failure_key(call: Call | Malformed) -> tuple[str, str]:
    """What makes two calls the same one."""
    return call.name, call.json if isinstance(call, Call) else call.written


