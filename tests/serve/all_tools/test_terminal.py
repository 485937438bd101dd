"""`headwater chat` with tools, and tools as settings of the commands."""

from __future__ import annotations

import asyncio
import builtins
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headwater.agent.functions import FunctionTool
from headwater.agent.interpreter import interpreter
from headwater.agent.offer import ToolsSettings, kinds_of
from headwater.agent.tool import Image, Kind, Observation
from headwater.cli.main import main
from headwater.errors import InputError, SettingsError
from headwater.generate.engine import Engine
from headwater.serve import terminal
from headwater.serve.plain import plain
from headwater.serve.server import ServeSettings
from headwater.serve.terminal import ChatSettings, chat
from headwater.serve.tool_terminal import SHOWN
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.calls import Call
from tests.serve.all_tools.scripted import Script, roomy_run

ROOT = Path(__file__).parents[3]
for needed in ("llguidance", "jsonschema_rs", "trafilatura"):
    pytest.importorskip(needed, reason="an extra of 'serve' or 'agent' is not installed")


@pytest.fixture(scope="module")
def run(trained: Tokenizer, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return roomy_run(tmp_path_factory.mktemp("runs") / "roomy", trained, small_model)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from headwater.agent.browser.building import index

    folder = tmp_path_factory.mktemp("pages")
    (folder / "velna.txt").write_text("Velna\n\nThe river Velna is 482 km long.")
    index(folder, folder.with_suffix(".index"))
    return folder.with_suffix(".index")


class Screen:
    """What a conversation showed."""

    def __init__(self, out: str, err: str, script: Script) -> None:
        self.out, self.err, self.script = out, err, script


@pytest.fixture
def talk(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Screen]:
    """Lines said to a scripted model that has these tools; typed: by a person, who can be asked."""
    def talk(lines: list[str], *turns: Any, kinds: dict[str, Kind], typed: bool = False, **settings: Any) -> Screen:
        said = iter(lines)
        scripts: list[Script] = []

        def load(folder: Path, **options: Any) -> Engine:
            scripts.append(Script(Engine(*loaded(folder), max_batch=1)))
            scripts[0].says(*turns)
            return scripts[0].engine

        def read(prompt: str = "") -> str:
            print(prompt, end="")
            try:
                return next(said)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr(terminal.Engine, "load", load)
        monkeypatch.setattr(terminal, "kinds_of", lambda settings: kinds)
        monkeypatch.setattr(builtins, "input", read)
        stdin = io.StringIO()
        stdin.isatty = lambda: typed  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", stdin)
        chat(run, ChatSettings(temperature=0, max_tokens=400, **settings))
        return Screen(*capsys.readouterr(), scripts[0])

    return talk


def loaded(folder: Path) -> tuple[Any, Tokenizer]:
    from headwater.model.checkpoint import load_model

    return load_model(folder), Tokenizer.load(folder)


def kind(function: Any, **options: Any) -> Kind:
    async def opened() -> Any:
        return FunctionTool(function, **options)

    return Kind(function.__name__, opened)


def test_a_pipe_gets_answers_alone_and_what_tools_do_stands_beside(talk: Any, pages: Path) -> None:
    kinds = kinds_of(ToolsSettings.parse({"browser": {"index": str(pages)}}))
    shown = talk(["How long is the Velna?", "Sure?"], Call("search", {"query": "Velna"}), "482 km.", "Yes.",
                 kinds=kinds)
    assert shown.out == "482 km.\nYes.\n"
    assert re.search(r'^▸ search\n    \{"query": "Velna"\}\n◂\n  │ 1 results', shown.err, re.MULTILINE)
    assert "482 km long" in shown.err
    assert shown.script.read[-1].count("<|call|>search") == 1  # what was found is still known in the next round


def test_programs_keep_their_names_from_round_to_round(talk: Any) -> None:
    try:
        kinds = kinds_of(ToolsSettings.parse({"python": {"packages": [], "memory_mib": 512}}))
    except InputError as error:
        pytest.skip(str(error))
    shown = talk(["one", "two"], Call("python", {"code": "a = 40\nprint('set')"}), "Done.",
                 Call("python", {"code": "a + 2"}), "42.", kinds=kinds, typed=True)
    assert "▸ python\n    a = 40\n    print('set')\n◂\n  │ set\n" in shown.out
    assert "  │ 42\n" in shown.out


@pytest.mark.parametrize(("answer", "sent"), [("y", 1), ("是", 1), ("", 0), ("no", 0)])
def test_a_person_is_asked_where_a_call_needs_one(talk: Any, answer: str, sent: int) -> None:
    letters: list[str] = []

    def post(text: str) -> str:
        letters.append(text)
        return "sent"

    shown = talk(["Tell them.", answer], Call("post", {"text": "wo\x1b[2Jrd"}), "Done.",
                 kinds={"post": kind(post, approval=True)}, typed=True)
    assert "? post (it needs your word)\n    text: wo\ufffd[2Jrd\n  allow?" in shown.out
    assert "\x1b" not in shown.out
    assert len(letters) == sent
    assert ("The user does not want 'post' called." in shown.out) == (not sent)


def test_nobody_is_asked_from_a_pipe(talk: Any) -> None:
    def post(text: str) -> str:
        raise AssertionError

    shown = talk(["Tell them."], Call("post", {"text": "a"}), "Done.", kinds={"post": kind(post, approval=True)})
    assert "nobody can be asked here" in shown.err


def test_ctrl_c_ends_the_turn_and_not_the_conversation(talk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    async def wait() -> str:
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("wait")
        return "?"

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        shown = talk(["one", "two"], Call("wait", {}), "Second.", kinds={"wait": kind(wait, effects=False)}, typed=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == ["wait"]
    assert "Second.\n" in shown.out
    assert shown.script.read[-1].count("<|user|>") == 2


def test_pictures_are_kept_and_long_texts_are_shown_in_part(talk: Any) -> None:
    def draw() -> Observation:
        return Observation("\n".join(f"line {number}" for number in range(100)), (Image(b"png"),))

    shown = talk(["one"], Call("draw", {}), "Done.", kinds={"draw": kind(draw, effects=False)}, typed=True)
    [picture] = re.findall(r"  │ (/\S+/1\.png)", shown.out)
    assert Path(picture).read_bytes() == b"png"
    assert shown.out.count("line ") == SHOWN
    assert "… 76 …" in shown.out


def test_a_history_that_is_too_long_loses_its_oldest_rounds(talk: Any) -> None:
    def look() -> str:
        return "word " * 900

    shown = talk([f"round {number}" for number in range(4)],
                 lambda text: "Done." if text.rpartition("<|user|>")[2].count("<|observation|>") else Call("look", {}),
                 kinds={"look": kind(look, effects=False)})
    assert shown.out == "Done.\n" * 4
    assert "round 0" not in shown.script.read[-1]
    assert "round 2" in shown.script.read[-1]


def test_the_examples_of_the_document_run(run: Path, pages: Path, tmp_path: Path) -> None:
    try:
        kinds_of(ToolsSettings.parse({"python": {}}))
    except InputError as error:
        pytest.skip(str(error))
    code = "".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "agent.md").read_text(), re.DOTALL))
    for said, meant in (("length=4096", "length=20000"), ("runs/tools", run), ("pages.index", pages)):
        assert said in code
        code = code.replace(said, str(meant))
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run([sys.executable, tmp_path / "example.py"], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    assert re.search(r"step 1: \d+ tokens", done.stdout), done.stderr
    assert " s  ends: " in done.stdout
    assert "Ended(why='answer', text='It is 297 m deep.'" in done.stdout, done.stderr


def test_what_a_terminal_obeys_is_not_shown() -> None:
    assert plain("河\u3000\ta\x1b]0;x\x07\x9b\u202e\n") == "河\u3000\ta\ufffd]0;x\ufffd\ufffd\ufffd\n"


def test_tools_are_named_on_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", str(run), "--tools", "pythonn"]) == 2
    assert "did you mean 'tools.python'?" in capsys.readouterr().err
    assert main(["serve", str(run), "--tools", "browser"]) == 2
    assert "nothing to show without an index" in capsys.readouterr().err
    with pytest.raises(SettingsError, match="no tool is there"):
        ToolsSettings.parse({"budgets": {"steps": 2}})
    with pytest.raises(SettingsError, match="max_sessions"):
        ServeSettings.parse({"max_sessions": 2, "tools": {"browser": {"offline": False}}})
    with pytest.raises(SettingsError, match="tool's own name"):
        ToolsSettings.parse({"mcp": {"python": {"command": ["x"], "tools": ["y"]}}})


def test_without_walls_python_is_refused_unless_forced(run: Path, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    def none() -> None:
        raise InputError("nothing can wall programs in", fix="install bubblewrap")

    monkeypatch.setattr(interpreter, "isolation", none)
    assert main(["serve", str(run), "--tools", "python", "port=0"]) == 2
    assert "nothing can wall programs in" in capsys.readouterr().err
    assert list(kinds_of(ToolsSettings.parse({"python": {"force": True}}))) == ["python"]
    assert "without isolation" in capsys.readouterr().err


def test_tools_of_an_mcp_server_are_offered_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("mcp", reason="mcp is not installed")
    command = [sys.executable, "-m", "headwater", "mcp", str(tmp_path), "stages=[atlas]"]
    settings = {"stages": {"command": command, "tools": ["atlas"], "env": {"PYTHONPATH": str(ROOT)}}}
    kinds = kinds_of(ToolsSettings.parse({"mcp": settings}))
    assert (kinds["stages"].label, kinds["stages"].process) == ("stages: atlas", True)
    with pytest.raises(InputError, match="no tool 'atlass'"):
        kinds_of(ToolsSettings.parse({"mcp": {"stages": {**settings["stages"], "tools": ["atlass"]}}}))


def test_a_server_starts_with_tools_and_offers_them(run: Path, pages: Path) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    command = [sys.executable, "-m", "headwater", "serve", str(run), "--tools", "browser",
               f"tools.browser.index={pages}", "tools.budgets.steps=2", "port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert [one["type"] for one in httpx.get(f"{url}/tools.json").json()] == ["browser"]
        asked = {"model": "roomy", "messages": [{"role": "user", "content": "?"}], "tools": [{"type": "browser"}]}
        refused = httpx.post(f"{url}/v1/chat/completions", json={**asked, "budgets": {"steps": 3}})
        assert "at most 2 here" in refused.json()["error"]["message"]
        answer = httpx.post(f"{url}/v1/chat/completions", json={**asked, "max_tokens": 20}, timeout=60)
        assert json.loads(answer.text)["usage"]["completion_tokens"] <= 20
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
