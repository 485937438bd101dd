"""A conversation in the terminal whose model calls tools: what it calls and what comes back is shown as it happens."""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from headwater.agent.asking import ContextFull, WorkerModel
from headwater.agent.budgets import Budgets
from headwater.agent.events import Ended, Event
from headwater.agent.loop import Agent
from headwater.agent.offer import LONGER, told_tokens
from headwater.agent.permission import Permission, Reason
from headwater.agent.tool import Definition, Kind, Tool
from headwater.agent.toolbox import Toolbox
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.request import Delta
from headwater.generate.sampling import SamplingParams
from headwater.generate.worker import Worker
from headwater.serve.plain import plain
from headwater.serve.work_told import WorkTold
from headwater.tokenizer import Message

SHOWN, WIDEST = 24, 400
"""Lines of a program, and of what came back, that are shown, and characters of each."""
HISTORY = 0.5
"""Of the context, at most: the rest is for what tools give back, and for the answer."""
YES = ("y", "yes", "是", "好", "可以")


class ToolChat:
    """A `ChatSession` with tools, which live as long as it does: a program's variables stay from round to round. A
    history that leaves no room loses whole rounds from the left."""

    def __init__(self, engine: Engine, params: SamplingParams, kinds: Mapping[str, Kind], budgets: Budgets, *,
                 system: str = "", adapter: str | None = None, interactive: bool = False) -> None:
        """interactive: a person is there, and is asked where a call needs one. Raises what opening the tools does."""
        self.system, self.rounds = system, list[list[Message]]()
        self._out = sys.stdout if interactive else sys.stderr
        self._runner, self._worker = asyncio.Runner(), Worker(engine)
        self._pictures: Path | None = None
        try:
            tools = self._runner.run(_opened(kinds))
            self._box = Toolbox(tools, permission=Permission(approve=_asked if interactive else None))
            self._agent = Agent(WorkerModel(self._worker, params, adapter=adapter), self._box, budgets=budgets)
            _require_room(engine, kinds)
        except BaseException:
            self._worker.close()
            self._runner.close()
            raise

    def reset(self) -> None:
        """Forget the rounds, and that others' words were among them; what programs have made stays."""
        self.rounds.clear()
        self._agent.tainted = False

    def reply(self, text: str) -> Generator[Delta]:
        """The answer's text as it comes; the round is remembered, as far as it got. Raises `InputError` when the
        message alone does not fit."""
        question: Message = {"role": "user", "content": text}
        told, answer, ended = WorkTold(), "", None
        events = self._events(question)
        try:
            for event in events:
                ended = event if isinstance(event, Ended) else ended
                for piece in told.feed(event):
                    if "agent" in piece:
                        self._show(piece["agent"], apart=bool(answer) and not answer.endswith("\n"))
                    else:
                        shown = plain(piece["delta"].get("content", ""))  # a page can make a model say anything
                        answer += shown
                        yield Delta(shown, (), (), None)
        finally:
            events.close()
            said = list(ended.messages) if ended is not None else [Message(role="assistant", content=answer)]
            self.rounds.append([question, *said])

    def close(self) -> None:
        """End the tools and what they started."""
        with self._runner as runner:
            runner.run(self._box.close())
        self._worker.close()

    def _events(self, question: Message) -> Generator[Event]:
        """Ctrl-C ends what runs, and comes out of here as KeyboardInterrupt."""
        while self.rounds and self._length(question) > HISTORY * self._worker.engine.max_length:
            self.rounds.pop(0)
        while True:
            run = aiter(self._agent.run(self._messages(question)))
            begun = False
            try:
                while (event := self._runner.run(_next(run))) is not None:
                    begun = True
                    yield event
                return
            except ContextFull:  # what the model is told of its tools counts too
                if begun or not self.rounds:
                    raise
                self.rounds.pop(0)
            finally:
                self._runner.run(run.aclose())

    def _length(self, question: Message) -> int:
        return len(self._worker.engine.tokenizer.chat.render(self._messages(question)).ids)

    def _messages(self, question: Message) -> list[Message]:
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *(message for one in self.rounds for message in one), question]

    def _show(self, told: Mapping[str, Any], *, apart: bool) -> None:
        """apart: on a new line."""
        if apart:
            print(file=self._out)
        if told["type"] == "call":
            _print(self._out, f"▸ {told['name'] or '?'}", told["arguments"], "    ")
        elif told["type"] == "budget":
            left = "no room in the context" if told["what"] == "context" else f"no {told['what']} left"
            _print(self._out, f"▸ {left} · 用尽", "", "")
        else:
            _print(self._out, "✗" if told["failed"] else "◂", told["text"], "  │ ")
            for picture in told["images"]:
                print(f"  │ {self._kept(picture)}", file=self._out)
        self._out.flush()

    def _kept(self, picture: str) -> Path:
        """A data URL as a file that the person can open."""
        self._pictures = self._pictures or Path(tempfile.mkdtemp(prefix="headwater-pictures-"))
        head, _, data = picture.partition(",")
        kind = head.partition("/")[2].partition(";")[0]
        path = self._pictures / f"{len(list(self._pictures.iterdir())) + 1}.{kind}"
        path.write_bytes(base64.b64decode(data))
        return path


def _require_room(engine: Engine, kinds: Mapping[str, Kind]) -> None:
    tokens = told_tokens(engine.tokenizer, kinds.values())
    if tokens >= engine.max_length:
        raise InputError(f"what the model is told of its tools takes {tokens} tokens, the context holds "
                         f"{engine.max_length}", where="tools", fix=f"offer fewer, or give {LONGER}")


async def _opened(kinds: Mapping[str, Kind]) -> list[Tool]:
    found: list[Tool] = []
    try:
        for kind in kinds.values():
            found.append(await kind.open())
    except BaseException:
        await asyncio.gather(*(one.close() for one in found))
        raise
    return found


async def _next(events: AsyncGenerator[Event]) -> Event | None:
    return await anext(events, None)


async def _asked(tool: Definition, arguments: Mapping[str, Any], reason: Reason) -> bool:
    """Whether the person agrees; Ctrl-C and the end of the input say no."""
    why = "a page or a stranger's tool may have asked for it" if reason == "untrusted" else "it needs your word"
    _print(sys.stdout, f"? {tool.name} ({why})", "\n".join(f"{name}: {value}" for name, value in arguments.items()),
           "    ")
    # The loop's own handler would wait until the input is over.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with suppress(EOFError, KeyboardInterrupt):
            return input("  allow? 允许吗？[y/N] ").strip().lower() in YES
        print()
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def _print(out: TextIO, head: str, text: str, indent: str) -> None:
    """Others' words without what a terminal would obey, and not too many of them."""
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    left = len(lines) - SHOWN
    if left > 1:
        lines = [*lines[: SHOWN * 2 // 3], f"… {left} …", *lines[-(SHOWN // 3):]]
    cut = [line if len(line) <= WIDEST else f"{line[:WIDEST]} … {len(line) - WIDEST} …" for line in lines]
    print("\n".join([plain(head), *(indent + plain(line) for line in cut)]), file=out)
