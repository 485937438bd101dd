"""Adapters by name: over HTTP, at the server's start and in the terminal."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from headwater.artifacts import read_json, write_json
from headwater.errors import InputError, SettingsError
from headwater.folders import ADAPTER_CONFIG
from headwater.generate import Engine, SamplingParams
from headwater.generate.run_folder import find_model
from headwater.model.adapters import LoraSettings, adapted, attach, attach_prefix, save_adapter
from headwater.model.checkpoint import load_model
from headwater.model.prefix import PrefixSettings
from headwater.serve.server import ServeSettings, serve
from headwater.serve.terminal import ChatSettings, chat

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
QUESTION = "hello"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def folders(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters that make the model say something else."""
    found = {name: tmp_path_factory.mktemp("adapters") / name for name in ("poet", "org/clerk")}
    model = attach(load_model(run_folder / "finetune"), LoraSettings(rank=2), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith(".b"):
            parameter.data.normal_(0, 0.5, generator=generator)
    save_adapter(model, found["poet"], run_folder / "finetune")
    model = attach_prefix(load_model(run_folder / "finetune"), PrefixSettings(length=20), seed=1)
    save_adapter(model, found["org/clerk"], run_folder / "finetune")
    return found


@pytest.fixture(scope="module")
def alone(run_folder: Path, folders: dict[str, Path]) -> dict[str, str]:
    """What each says by itself."""
    found = {name: said(Engine.load(folder))
             for name, folder in {"tiny": run_folder / "finetune", **folders}.items()}
    assert len(set(found.values())) == len(found)
    return found


def said(engine: Engine) -> str:
    prompt = engine.tokenizer.chat.render([{"role": "user", "content": QUESTION}], add_generation_prompt=True).ids
    return engine.generate([prompt], SamplingParams(temperature=0, max_tokens=30, trim_start=True))[0].text


@pytest.fixture(scope="module")
def server(run_folder: Path, folders: dict[str, Path], serving: Any) -> Iterator[Any]:
    with serving(run_folder, adapters=folders) as running:
        yield running


def ask(server: Any, name: str) -> Any:
    return httpx.post(server.url + CHAT, timeout=30, json={
        "model": name, "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 30})


def test_a_request_names_the_model_or_an_adapter_and_all_are_answered_at_once(
        server: Any, alone: dict[str, str]) -> None:
    names = [*alone] * 4
    with ThreadPoolExecutor(len(names)) as pool:
        answers = [answer.json() for answer in pool.map(lambda name: ask(server, name), names)]
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == [alone[name] for name in names]
    assert [answer["model"] for answer in answers] == names


def test_streams_say_whose_they_are(server: Any, alone: dict[str, str]) -> None:
    answer = httpx.post(server.url + CHAT, timeout=30, json={
        "model": "poet", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0, "max_tokens": 30,
        "stream": True})
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if "{" in line]
    assert {event["model"] for event in events} == {"poet"}
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == alone["poet"]


def test_models_are_the_base_and_its_adapters(server: Any) -> None:
    cards = httpx.get(server.url + "/v1/models").json()["data"]
    assert [(card["id"], card.get("parent")) for card in cards] == [
        ("tiny", None), ("poet", "tiny"), ("org/clerk", "tiny")]
    assert httpx.get(server.url + "/v1/models/org/clerk").json() == cards[2]


def test_an_unknown_name_gets_the_known_ones(server: Any) -> None:
    answer = ask(server, "poets")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "the model 'poets' does not exist; this server has 'tiny', 'poet', 'org/clerk'",
        "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    assert httpx.get(server.url + "/v1/models/poets").status_code == 404


def test_what_cannot_be_served_is_told_at_the_start(run_folder: Path, folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"both called {run_folder.name}"):
        serve(run_folder, ServeSettings(port=0, adapters={run_folder.name: folders["poet"]}))
    with pytest.raises(InputError, match="no such folder"):
        serve(run_folder, ServeSettings(port=0, adapters={"poet": tmp_path / "gone"}))


def test_a_run_that_ends_with_an_adapter_is_served_merged(run_folder: Path, folders: dict[str, Path],
                                                          alone: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(run_folder / "finetune", tmp_path / "pretrain")
    path = shutil.copytree(folders["poet"], tmp_path / "finetune") / ADAPTER_CONFIG
    write_json(path, {**read_json(path), "base_model_name_or_path": "../pretrain"})
    engine = Engine.load(find_model(tmp_path))
    assert not list(adapted(engine.model))
    assert said(engine) == alone["poet"]


@pytest.mark.parametrize("name", ["poet", "org/clerk"])
def test_the_terminal_talks_to_an_adapter(run_folder: Path, folders: dict[str, Path], alone: dict[str, str], name: str,
                                          monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(QUESTION + "\n"))
    chat(run_folder, ChatSettings(temperature=0, max_tokens=30, adapter=folders[name]))
    assert capsys.readouterr().out.strip() == alone[name].replace("\r", " ").replace("\n", " ").strip()
