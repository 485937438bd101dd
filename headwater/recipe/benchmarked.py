"""The settings of stages that train a language model, with benchmarks beside their training: here, where the rooms that
train and the room that evaluates meet."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import model_validator

from headwater.context import stage as context
from headwater.evaluate.following import FollowSettings
from headwater.finetune import stage as finetune
from headwater.settings import Change, OwnDefaults
from headwater.train import stage as train

S = TypeVar("S", "PretrainSettings", "ExtendSettings", "FinetuneSettings")


def _require_snapshots(settings: S) -> S:
    if settings.benchmarks is not None and not settings.trainer.snapshot_tokens:
        raise ValueError("benchmarks are taken of snapshots, and there are none: set trainer.snapshot_tokens to the "
                         "tokens between two of them")
    return settings


class PretrainSettings(train.PretrainSettings):
    """What is pretrained, on what, and how."""

    benchmarks: Annotated[FollowSettings | None, Change.HOW] = None
    """What is measured of every snapshot while training goes on."""

    _of_snapshots = model_validator(mode="after")(_require_snapshots)


class ExtendSettings(context.ExtendSettings):
    """Which model learns to read how far, from what, and how that is measured."""

    benchmarks: Annotated[FollowSettings | None, Change.HOW] = None
    """What is measured of every snapshot while training goes on."""

    _of_snapshots = model_validator(mode="after")(_require_snapshots)


class FinetuneSettings(finetune.FinetuneSettings):
    """What is tuned, on which dialogues, and how."""

    benchmarks: Annotated[FollowSettings | None, Change.HOW, OwnDefaults({"evaluate": {"style": "chat"}})] = None
    """What is measured of every snapshot while training goes on."""

    _of_snapshots = model_validator(mode="after")(_require_snapshots)


Benchmarked = PretrainSettings | ExtendSettings | FinetuneSettings
