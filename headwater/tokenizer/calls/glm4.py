"""GLM-4: a call is the tool's name on the first line, then JSON, or a program for a tool of free text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from headwater.tokenizer.calls.format import plain
from headwater.tokenizer.calls.headed import HeadedFormat
from headwater.tokenizer.calls.lark import free, json_of, literal, sequence
from headwater.tokenizer.calls.reply import CODE, Call, Choice
from headwater.tokenizer.calls.stream import Body, CodeBody, JsonBody
from headwater.tokenizer.chat import Message

_END = "\n"


class Glm4Calls(HeadedFormat):
    """`name\\n{json}` up to <|observation|>, text behind an empty first line up to <|user|>; several segments of a turn
    stand between <|assistant|>. A name that is not declared is text: the format has no other sign of a call."""

    title = "GLM-4"

    def system(self, content: str) -> Message | None:
        """Tools stand below "# 可用工具", a section for each: those of free text with what is said of them (here),
        functions as JSON (the template's)."""
        functions = [plain(tool) for tool in self.tools.values() if not tool.free_text]
        if self.tools:
            sections = [f"\n\n## {tool.name}\n\n{tool.description}" for tool in self.tools.values() if tool.free_text]
            content = f"{content}\n\n# 可用工具{''.join(sections)}".lstrip("\n")
        if not content:
            return None
        return {"role": "system", "content": content, "tools": functions} if functions else \
            {"role": "system", "content": content}

    def write(self, call: Call) -> str:
        return str(call.arguments[CODE]) if self._is_free(call) else call.json

    def _is_free(self, call: Call) -> bool:
        tool = self.tools.get(call.name)
        return tool is not None and tool.free_text and set(call.arguments) == {CODE}

    def bodies(self) -> Mapping[str, Callable[[], Body]]:
        return {name: partial(CodeBody if tool.free_text else JsonBody, name) for name, tool in self.tools.items()}

    def grammar(self, choice: Choice = "auto", *, parallel: bool = True) -> str:
        tools = self.chosen(choice)
        said = f'start: "\\n" text <|user|>\n{free("text")}'
        if not tools:
            return said
        calls = "\n    | ".join(f"{literal(tool.name + _END)} {'code' if tool.free_text else f'arguments{number}'}"
                                for number, tool in enumerate(tools))
        rules = [f"arguments{number}: {json_of(tool.parameters)}\n" for number, tool in enumerate(tools)
                 if not tool.free_text]
        several = f"calls: {sequence('call', '<|assistant|>', parallel)} <|observation|>\n"
        start = 'start: calls\n' if choice != "auto" else \
            f'start: "\\n" text (<|user|> | <|assistant|> calls) | calls\n{free("text")}'
        code = free("code") if any(tool.free_text for tool in tools) else ""
        return f"{start}{several}call: {calls}\n{code}{''.join(rules)}"
