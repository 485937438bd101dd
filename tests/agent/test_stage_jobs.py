"""Breaks when a stage that others call can be led out of its folder, or outlives its call."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from headwater.agent.stage_jobs import StageTools
from headwater.agent.tool import ToolError
from headwater.recipe.stages import STAGES
from headwater.settings import InputPath, Settings


class Inner(Settings):
    path: Path | None = None


class Given(Settings):
    source: InputPath = Path("${corpus}")
    inner: Inner = Inner()
    words: list[str] = []
    fields: dict[str, str] = {}


@dataclass(frozen=True)
class Stand:
    name: str = "stand"
    purpose: str = "stand in for a stage"
    settings: type[Settings] = Given


def call(folder, out="a/b", **given):
    tools = StageTools(folder, [Stand()])
    return asyncio.run(tools.call("stand", {"out": out, "settings": given}))


@pytest.mark.parametrize("out", ["..", ".", "", "../x", "/tmp/x", "a/../../x", "link/x", "link", "a\0b"])
def test_the_stages_folder_stays_below_the_served_one(out, tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "link").symlink_to(tmp_path)
    with pytest.raises(ToolError, match="not inside of the folder"):
        call(tmp_path / "served", out)


@pytest.mark.parametrize("given", [
    {"source": "/etc/passwd"}, {"source": "../x"}, {"source": "link/x"}, {"source": "${corpus}/../../../x"},
    {"inner": {"path": "/etc"}}, {"words": ["../x"]}, {"words": ["a/../../../x"]}, {"words": ["/etc/passwd"]},
    {"words": ["s3://bucket/x"]}, {"words": ["~/x"]}, {"fields": {"a": "file:///etc"}}, {"fields": {"https://a": "b"}}],
    ids=str)
def test_no_setting_leads_out_of_the_folder(given, tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "link").symlink_to(tmp_path)
    with pytest.raises(ToolError, match="folder that is served"):
        call(tmp_path / "served", **given)


def test_a_folder_beside_that_leads_out_is_refused_too(tmp_path):
    (tmp_path / "served" / "a").mkdir(parents=True)
    (tmp_path / "served" / "a" / "corpus").symlink_to("/etc")
    with pytest.raises(ToolError, match="'source' is"):
        call(tmp_path / "served")


def test_unknown_settings_are_told(tmp_path):
    with pytest.raises(ToolError, match="did you mean 'source'"):
        call(tmp_path, sorce="x")


def test_a_stage_that_fails_says_why(tmp_path):
    """The name is no command of headwater's, which refuses it."""
    found = call(tmp_path)
    assert found.failed
    assert '"exit_code": 2' in found.text
    assert "unknown command 'stand'" in found.text


def test_a_cancelled_stage_ends(tmp_path):
    async def act():
        tools = StageTools(tmp_path, [STAGES["atlas"]])
        task = asyncio.create_task(tools.call("atlas", {"out": "atlas", "settings": {"size": "large"}}))
        until = time.monotonic() + 60
        while not (tmp_path / "atlas" / "started.json").exists() and time.monotonic() < until:
            await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        await tools.close()
        assert task.cancelled()

    asyncio.run(act())
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path / "atlas") not in listed
    assert not (tmp_path / "atlas" / "manifest.json").exists()


def test_schemas_of_all_stages_are_schemas():
    checker = pytest.importorskip("headwater.tokenizer.calls.schema")
    pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
    for definition in StageTools(Path(os.getcwd()), STAGES.values()).definitions:
        assert definition.effects
        assert checker.Checker(definition.parameters, where=definition.name).mistakes({"out": 3, "settings": {}})
