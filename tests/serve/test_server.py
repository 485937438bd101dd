from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from pydantic import ValidationError

from headwater.artifacts import write_json
from headwater.errors import InputError, SettingsError
from headwater.serve.server import ServeSettings, examples, listen, serve
from headwater.serve.terminal import chat

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
SERVE = "import sys; from pathlib import Path; from headwater.serve.server import *; " \
        "serve(Path(sys.argv[1]), ServeSettings(port=0))"


def test_serve_prints_its_url_answers_and_ends_on_sigterm(run_folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(run_folder)], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("chat page: http://127.0.0.1:")
        url = line.removeprefix("chat page: ").strip()
        with urllib.request.urlopen(url + "/v1/models", timeout=10) as answer:
            assert b'"tiny"' in answer.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_stop_ends_the_server_at_once_and_quietly(run_folder: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(run_folder)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None:  # the first ends it within a tenth of a second, others come before
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert process.returncode == 130
        assert "Traceback" not in process.communicate()[1]
    finally:
        process.kill()
        process.wait()


def test_the_examples_are_the_first_questions_of_the_runs_own_conversations(tmp_path: Path) -> None:
    assert examples(tmp_path) == []
    conversation = [{"role": role, "content": text} for role, text in (
        ("user", "a"), ("assistant", "x"), ("user", "b"), ("assistant", "y"), ("user", "c"))]
    write_json(tmp_path / "evaluate" / "samples.json", [{"model": "one", "messages": conversation}] * 2)
    assert examples(tmp_path) == ["a", "b"]
    write_json(tmp_path / "evaluate" / "samples.json", [3])
    assert examples(tmp_path) == []


def test_a_port_in_use_is_told_before_the_model_is_loaded(run_folder: Path) -> None:
    taken = listen("127.0.0.1", 0)
    taken.listen()
    with taken, pytest.raises(SettingsError, match="port=0 takes a free one"):
        serve(run_folder, ServeSettings(port=taken.getsockname()[1]))


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model here"):
        serve(tmp_path, ServeSettings(port=0))


@pytest.mark.parametrize("wrong", [{"port": -1}, {"max_batch": 0}, {"max_queue": -1}, {"prot": 1}])
def test_settings_without_meaning_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ServeSettings(**wrong)  # type: ignore[arg-type]


def test_a_model_without_a_chat_format_is_told_before_it_serves_or_chats(shared: Path) -> None:
    base = shared / "checkpoints" / "stories260K-hf"
    with pytest.raises(InputError, match="no chat format is known"):
        serve(base, ServeSettings(port=0))
    with pytest.raises(InputError, match="no chat format is known"):
        chat(base)


def test_a_model_of_another_template_is_refused_by_server_and_terminal(run_folder: Path, tmp_path: Path) -> None:
    model = shutil.copytree(run_folder / "finetune", tmp_path / "model")
    (model / "tokenizer_config.json").write_text('{"chat_template": "{{ messages[0].content }}"}')
    for start in (lambda: serve(model, ServeSettings(port=0)), lambda: chat(model)):
        with pytest.raises(InputError, match="force_template=true"):
            start()
