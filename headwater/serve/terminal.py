"""`headwater chat`: a conversation in the terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

from pydantic import Field

from headwater.agent.offer import ToolsSettings, kinds_of
from headwater.errors import HeadwaterError, InputError
from headwater.generate.chat_session import ChatSession
from headwater.generate.engine import Engine
from headwater.generate.request import Delta
from headwater.generate.run_folder import find_model
from headwater.generate.sampling import SamplingParams
from headwater.model.adapters import ONE
from headwater.model.cache import CacheForm
from headwater.model.extension import ContextSettings
from headwater.model.packed import Base
from headwater.progress import say
from headwater.serve.plain import plain
from headwater.settings import Seed, Settings
from headwater.tokenizer.fitting import require_template

HELP = "/reset 重新开始 start over   /system TEXT 系统提示 set the system prompt   /quit 退出 leave"
LEAVE = "(Ctrl-C once more, Ctrl-D or /quit leaves · 再按一次 Ctrl-C、Ctrl-D 或 /quit 退出)"


class ChatSettings(Settings):
    """How the model answers in the terminal."""

    system: str = ""
    """System prompt."""
    temperature: float = Field(default=0.3, ge=0, le=2)
    top_p: float = Field(default=0.9, ge=0, le=1)
    max_tokens: int = Field(default=256, gt=0)
    """Longest answer."""
    seed: Seed | None = None
    adapter: Path | None = None
    """Folder of an adapter of the model, which answers; not merged with it."""
    base: Base | None = None
    """The form into which the model's matrices are packed; as they are stored when not set."""
    cache: CacheForm | None = None
    """int8: keys and values in a byte each, in half of bfloat16's memory; in the model's own type when not set."""
    context: ContextSettings = ContextSettings()
    """A longer context than the model's own."""
    force_template: bool = False
    """Use the tokenizer's chat template even where the checkpoint records another."""
    tools: ToolsSettings = ToolsSettings()
    """That the model may call; they live as long as the conversation does."""


class Session(Protocol):
    """A conversation with memory."""

    system: str

    def reset(self) -> None: ...

    def reply(self, text: str) -> Generator[Delta]: ...


def chat(folder: Path, settings: ChatSettings | None = None) -> None:
    """Talk to the last model of a run until /quit or the end of the input.

    Answers go to standard output as they come. From a pipe every line is one message and gets one line of answer, and
    what tools do goes to standard error. Raises `InputError` without a model, and for tools that cannot be had.
    """
    settings = settings or ChatSettings()
    params = SamplingParams(temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens,
                            seed=settings.seed)
    model, kinds = find_model(folder), kinds_of(settings.tools)
    adapters = {} if settings.adapter is None else {ONE: settings.adapter}
    engine = Engine.load(model, max_batch=1, context=settings.context, base=settings.base, adapters=adapters,
                         cache=settings.cache)
    # a model without a chat format, or tuned with another one, is told now and not at every line
    require_template(engine.tokenizer, model, force=settings.force_template)
    interactive, adapter = sys.stdin.isatty(), next(iter(adapters), None)
    if interactive:
        _load_line_editing()
        print(HELP)
    _set_encodings()
    if not kinds:
        _talk(ChatSession(engine, params, system=settings.system, adapter=adapter), interactive)
        return
    from headwater.serve.tool_terminal import ToolChat

    with closing(ToolChat(engine, params, kinds, settings.tools.budgets, system=settings.system, adapter=adapter,
                          interactive=interactive)) as session:
        _talk(session, interactive)


def _talk(session: Session, interactive: bool) -> None:
    for line in _lines(interactive):
        if not _turn(session, line, interactive):
            return


def _load_line_editing() -> None:
    with suppress(ImportError):  # Windows has none
        import readline  # noqa: F401 (importing it gives input() history and editing)


def _set_encodings() -> None:
    """Input is UTF-8, strictly: in a C locale bytes that are no text would come in as lone surrogates. What the
    output's encoding cannot say is shown as "?"."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _lines(interactive: bool) -> Iterator[str]:
    """What is typed, until the end of the input or a second Ctrl-C in a row; the first drops a line half typed."""
    stopped = False
    while True:
        try:
            line = input("> " if interactive else "")
        except EOFError:
            break
        except KeyboardInterrupt:
            if stopped or not interactive:
                break
            stopped = True
            print(f"\n{LEAVE}")
            continue
        except UnicodeDecodeError as error:
            raise InputError(f"standard input is not UTF-8 ({error})", fix="send UTF-8 text") from None
        stopped = False
        yield line
    if interactive:
        print()


def _turn(session: Session, line: str, interactive: bool) -> bool:
    """One line of input; False ends the conversation."""
    command, _, rest = line.strip().partition(" ")
    if command in ("/quit", "/exit"):
        return False
    if command == "/reset":
        session.reset()
        say("(started over · 已重新开始)")
    elif command == "/system":
        session.system = rest.strip()
        session.reset()
        say(f"(system prompt {'set' if session.system else 'cleared'}, started over · "
            f"系统提示已{'设置' if session.system else '清除'}，重新开始)")
    elif command.startswith("/"):
        print(HELP, file=sys.stderr)
    elif command:
        _answer(session, line.strip(), _typed if interactive else _one_line)
    return True


def _answer(session: Session, text: str, show: Callable[[str], None]) -> None:
    """Stream one answer; Ctrl-C ends the answer, not the conversation."""
    answer = session.reply(text)
    try:
        for delta in answer:
            show(delta.text)
    except KeyboardInterrupt:
        answer.close()
    except HeadwaterError as error:
        print(error, file=sys.stderr)
    print(flush=True)


def _typed(text: str) -> None:
    print(plain(text), end="", flush=True)


def _one_line(text: str) -> None:
    """From a pipe, line breaks inside an answer become spaces: one message, one line."""
    print(plain(text.replace("\r", " ").replace("\n", " ")), end="", flush=True)
