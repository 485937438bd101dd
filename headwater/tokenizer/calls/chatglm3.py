"""ChatGLM3: a call is the tool's name on the first line, then Python between fences, of which literals are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from headwater.errors import InputError
from headwater.tokenizer.calls.arguments import write_python
from headwater.tokenizer.calls.format import plain
from headwater.tokenizer.calls.headed import HeadedFormat
from headwater.tokenizer.calls.lark import free, literal, sequence
from headwater.tokenizer.calls.python_grammar import keywords
from headwater.tokenizer.calls.reply import CODE, Call, Choice, Offered
from headwater.tokenizer.calls.stream import FENCE, Body, FencedCodeBody, PythonBody
from headwater.tokenizer.chat import Message

INTERPRETER = "interpreter"
"""The name of the one tool whose calls are programs, whatever it is called elsewhere."""


class ChatGlm3Calls(HeadedFormat):
    """`name\\n ```python\\ntool_call(key='value')\\n```` up to <|observation|>; for the interpreter a program instead
    of `tool_call`. Text stands behind an empty first line, and several segments of a turn between <|assistant|>."""

    title = "ChatGLM3"
    opening_space = True

    def __init__(self, tools: Iterable[Offered] = ()) -> None:
        super().__init__(tools)
        free_ones = [tool.name for tool in self.tools.values() if tool.free_text]
        if len(free_ones) > 1 or (free_ones and INTERPRETER in self.tools and free_ones != [INTERPRETER]):
            raise InputError(f"ChatGLM3 writes calls of one tool as programs, here are {', '.join(free_ones)}"
                             if len(free_ones) > 1 else f"'{INTERPRETER}' is the name of ChatGLM3's own",
                             fix="offer one of them")
        self._interpreter = free_ones[0] if free_ones else None

    def head(self, name: str) -> str:
        return INTERPRETER if name == self._interpreter else name

    def system(self, content: str) -> Message | None:
        """Functions as JSON behind the content (the template's doing), what is said of the interpreter in it."""
        functions = [plain(tool) for tool in self.tools.values() if not tool.free_text]
        if self._interpreter is not None:
            content = f"{content}\n\n{self.tools[self._interpreter].description}".lstrip("\n")
        if functions:
            return {"role": "system", "content": content, "tools": functions}
        return {"role": "system", "content": content} if content else None

    def write(self, call: Call) -> str:
        inner = call.arguments[CODE] if call.name == self._interpreter and set(call.arguments) == {CODE} else \
            write_python(json.loads(call.json))
        return f"{FENCE}python\n{inner}\n{FENCE}"

    def bodies(self) -> Mapping[str, Callable[[], Body]]:
        return {self.head(name): partial(FencedCodeBody if tool.free_text else PythonBody, name)
                for name, tool in self.tools.items()}

    def grammar(self, choice: Choice = "auto", *, parallel: bool = True) -> str:
        """The arguments are Python's literals, made of the schema by `python_grammar`."""
        tools = self.chosen(choice)
        said = f'said: " "? "\\n" text\n{free("text")}'
        if not tools:
            return f"start: said <|user|>?\n{said}"
        calls = "\n    | ".join(f'" "? {literal(self.head(tool.name) + _END)} " "? {_OPENS} inner{number}'
                                for number, tool in enumerate(tools))
        rules = "".join(self._inner(tool, f"inner{number}") for number, tool in enumerate(tools))
        several = f"calls: {sequence('call', '<|assistant|>', parallel)} <|observation|>\n"
        start = "start: calls\n" if choice != "auto" else \
            f"start: said (<|user|>? | <|assistant|> calls) | calls\n{said}"
        code = _PROGRAM if any(tool.free_text for tool in tools) else ""
        return f"{start}{several}call: {calls}\n{code}{rules}"

    def _inner(self, tool: Offered, rule: str) -> str:
        """What follows the opening fence of a call."""
        if tool.free_text:
            return f"{rule}: code\n"
        right, more = keywords(tool.parameters, f"{rule}_", tool.name)
        return f"{rule}: {right} {_CLOSES}\n{more}"


_END = "\n"
_PROGRAM = """code: (line? "\\n")* "```"
line: /`{0,2}([^`\\n][^\\n]*)?/
"""
"""Lines up to the first that begins with a fence: a text of anything would take that in, as lexers do not go back."""
_OPENS, _CLOSES = literal(f"{FENCE}python\n"), literal(f"\n{FENCE}")
