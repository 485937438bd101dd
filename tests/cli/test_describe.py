"""Breaks when the help shows another default than runs, or a setting that is refused."""

import json

import pytest

from headwater.align.dpo_stage import DpoSettings
from headwater.align.ppo_settings import PpoSettings
from headwater.align.rejection import RejectionSettings
from headwater.align.reward import RewardStageSettings
from headwater.cli.describe import describe
from headwater.context.stage import ExtendSettings
from headwater.finetune.stage import FinetuneSettings

REQUIRED = {PpoSettings: {"prompts": ["p"], "rewards": {"rules": {"right": 1}}, "trainer": {}},
            RejectionSettings: {"prompts": ["p"], "rewards": {"rules": {"right": 1}}, "trainer": {"epochs": 1}},
            DpoSettings: {"pairs": ["p"], "trainer": {"epochs": 1}},
            RewardStageSettings: {"pairs": ["p"], "trainer": {"epochs": 1}},
            ExtendSettings: {"context": {"length": 64}, "trainer": {"epochs": 1}},
            FinetuneSettings: {"dialogues": ["d"], "trainer": {"epochs": 1}}}


@pytest.mark.parametrize("settings", REQUIRED)
def test_the_help_shows_what_runs(settings):
    trainer = settings.parse(REQUIRED[settings]).trainer.model_dump(mode="json")
    shown = [line.strip().partition("  (") for line in describe(settings).splitlines() if line.startswith("  trainer.")]
    for name, _, facts in shown:
        value = trainer
        for part in name.split(".")[1:]:
            value = value[part]
        if name not in ("trainer.steps", "trainer.epochs"):
            assert facts.endswith(f"default {value if isinstance(value, str) else json.dumps(value)})"), name
    assert len(shown) > 20


def test_what_is_refused_is_not_shown():
    names = {line.split()[0] for line in describe(PpoSettings).splitlines() if line.startswith("  trainer.")}
    gone = {f"trainer.{name}" for name in ("steps", "epochs", "validate_every", "compile", "snapshot_tokens")}
    assert not gone & names
    assert gone < {line.split()[0] for line in describe(FinetuneSettings).splitlines() if line.startswith("  trainer.")}
