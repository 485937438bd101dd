"""Whether a chat model calls the right tool where one is needed, and none where none is."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from headwater.dialogues.reading import Dialogue, answer_by_answer, read_dialogues
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.progress import say
from headwater.tokenizer import Message
from headwater.tokenizer.calls import Call, Reply, format_for
from headwater.tokenizer.calls.spoken import Spoken

ANSWER_TOKENS = 96


class Turn(NamedTuple):
    """One answer of a dialogue, asked for behind all that the dialogue has before it."""

    language: str
    wanted: Call | None
    """None: no tool is to be called."""
    said: Reply | None
    """None: what stands before it leaves no room in the model's context."""

    @property
    def tool_is_right(self) -> bool:
        """The right tool alone, or none."""
        if self.said is None:
            return False
        return [call.name for call in self.said.calls] == ([] if self.wanted is None else [self.wanted.name])

    @property
    def is_right(self) -> bool:
        """With the right arguments, too."""
        return self.tool_is_right and (self.wanted is None or (
            self.said is not None and all(isinstance(call, Call) and call.arguments == self.wanted.arguments
                                          for call in self.said.calls)))


def measure(engine: Engine, path: Path) -> dict[str, dict[str, Any]]:
    """By language: `right_tool` and `right_call` (with its arguments) of turns that call, `no_call` of those that do
    not, `dialogues` in which every turn is right; `subjects` by the tool. Greedy, without a constraint.

    Raises `InputError` for dialogues of which none calls, and for a model whose chat format has no tools.
    """
    dialogues = read_dialogues([path])
    if not any(_call_of(message) for dialogue in dialogues for message in dialogue.messages):
        raise InputError("no dialogue calls a tool", where=path, fix="give dialogues with calls")
    parts = [answer_by_answer([dialogue]) for dialogue in dialogues]
    turns = _asked(engine, [one for part in parts for one in part])
    whole, at = defaultdict(list), 0
    for dialogue, part in zip(dialogues, parts, strict=True):
        whole[dialogue.language].append(all(turn.is_right for turn in turns[at : at + len(part)]))
        at += len(part)
    return {language: _figures([turn for turn in turns if turn.language == language], right)
            for language, right in whole.items()}


def _figures(turns: list[Turn], whole: list[bool]) -> dict[str, Any]:
    groups: dict[str, list[Turn]] = defaultdict(list)
    for turn in turns:
        groups[turn.wanted.name if turn.wanted is not None else "none"].append(turn)
    calling = [turn for turn in turns if turn.wanted is not None]
    figures = {"right_tool": _share([turn.tool_is_right for turn in calling]),
               "right_call": _share([turn.is_right for turn in calling]),
               "no_call": _share([turn.tool_is_right for turn in groups.get("none", [])]), "dialogues": _share(whole)}
    return {"figures": {name: value for name, value in figures.items() if value is not None},
            "questions": len(turns),
            "subjects": {name: {"questions": len(ones), "accuracy": _share([one.tool_is_right for one in ones])}
                         for name, ones in sorted(groups.items())}}


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _asked(engine: Engine, dialogues: list[Dialogue]) -> list[Turn]:
    chat = engine.tokenizer.chat
    prompts = [chat.render(one.messages[:-1], add_generation_prompt=True).ids for one in dialogues]
    fitting = [at for at, prompt in enumerate(prompts) if len(prompt) + ANSWER_TOKENS <= engine.max_length]
    if len(fitting) < len(prompts):
        say(f"of {len(prompts)} turns, {len(prompts) - len(fitting)} leave no room for an answer in a context of "
            f"{engine.max_length} tokens; they count as wrong")
    answers = engine.generate([prompts[at] for at in fitting],
                              SamplingParams(temperature=0, max_tokens=ANSWER_TOKENS))
    names = {index: name for name, index in engine.tokenizer.specials.items()}
    replies: dict[int, Reply] = {}
    for at, answer in zip(fitting, answers, strict=True):
        spoken = Spoken(engine.tokenizer)
        format_ = format_for(chat, _offered(dialogues[at].messages))
        replies[at] = format_.parse([*spoken.feed(answer.tokens), *spoken.finish()],
                                    None if answer.end_mark is None else names.get(answer.end_mark))
    return [Turn(one.language, _call_of(one.messages[-1]), replies.get(at)) for at, one in enumerate(dialogues)]


class _Tool(NamedTuple):
    """As a dialogue offers it."""

    name: str
    description: str
    parameters: dict[str, Any]
    free_text: bool = False


def _offered(messages: list[Message]) -> list[_Tool]:
    return [_Tool(tool["name"], tool.get("description", ""), tool.get("parameters", {}))
            for message in messages for tool in message.get("tools", ())]


def _call_of(message: Message) -> Call | None:
    name = message.get("metadata", "")
    return Call(name, json.loads(message["content"])) if message["role"] == "assistant" and name else None
