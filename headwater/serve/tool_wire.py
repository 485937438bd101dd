"""Tools on the wire: the functions that a request offers, and the calls of earlier turns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headwater.agent.tool import Definition
from headwater.serve.errors import RequestError
from headwater.serve.wire import Wire
from headwater.tokenizer.calls import Call, Choice, Malformed, Only
from headwater.tokenizer.calls.stream import read_call


class Function(Wire):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """Whether arguments are held to the schema where the model calls by itself; a call that is asked for always is."""

    def definition(self) -> Definition:
        return Definition(self.name, self.description or "", {"type": "object", **(self.parameters or {})})


class Tool(Wire):
    type: str
    function: Function | None = None


class Named(Wire):
    name: str


class NamedTool(Wire):
    """The one function to be called."""

    type: Literal["function"]
    function: Named


class Called(Wire):
    name: str
    arguments: str


class WireCall(Wire):
    """A call of an earlier turn, as it was sent."""

    id: str
    type: Literal["function"]
    function: Called

    def call(self) -> Call | Malformed:
        """Written anew, as JSON is not every family's form; what cannot be read stays as it is."""
        found = read_call(self.function.name, self.function.arguments)
        return Call(found.name, found.arguments) if isinstance(found, Call) else found


ToolChoice = Literal["none", "auto", "required"] | NamedTool


@dataclass(frozen=True)
class Tools:
    """What a request says of tools."""

    offered: Sequence[Tool]
    choice: ToolChoice | None
    parallel: bool

    def functions(self) -> Sequence[Function]:
        """Those the client carries out."""
        return [tool.function for tool in self.offered if tool.function is not None]

    def kinds(self) -> Sequence[str]:
        """Those the server is to carry out."""
        return list(dict.fromkeys(tool.type for tool in self.offered if tool.type != "function"))

    def chosen(self) -> Choice:
        """Whether the model is to call."""
        if isinstance(self.choice, NamedTool):
            return Only(self.choice.function.name)
        return self.choice or ("auto" if self.offered else "none")

    def check(self) -> None:
        """Raises `RequestError`."""
        for number, tool in enumerate(self.offered):
            if (tool.function is None) == (tool.type == "function"):
                what = "is required" if tool.function is None else f"does not belong to a tool of type '{tool.type}'"
                raise RequestError(f"'tools.{number}.function' {what}", param=f"tools.{number}.function",
                                   code="missing_required_parameter" if tool.function is None else "invalid_value")
        if self.chosen() == "required" and not self.offered:
            raise RequestError("'tool_choice' asks for a call and 'tools' offers none", param="tool_choice",
                               code="invalid_value")
        if not self.kinds():
            self.require_choice([function.name for function in self.functions()])

    def require_choice(self, names: Collection[str]) -> None:
        """Raises `RequestError` where the one function to be called is none of these."""
        choice = self.chosen()
        if isinstance(choice, Only) and choice.name not in names:
            raise RequestError(f"'tool_choice' names '{choice.name}', which 'tools' does not offer",
                               param="tool_choice", code="invalid_value")
