"""`headwater reward judge`: a reward model on pairs that it has never met."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from headwater.align.agreement import judged, told
from headwater.align.pairs import read_pairs
from headwater.align.preferences import PreferenceReading, read_preferences
from headwater.align.reward_model import RewardModel
from headwater.artifacts import make_folder, write_json
from headwater.progress import print_result
from headwater.settings import InputPath, Settings


class JudgeSettings(Settings):
    """Which pairs."""

    pairs: list[InputPath] = Field(min_length=1)
    """In any form that the reward stage reads."""
    reading: PreferenceReading = PreferenceReading()
    """How the files are read."""


def judge(folder: Path, out: Path, settings: JudgeSettings) -> None:
    """Print the tables and write `reward.json` into `out`; the model stays as it is."""
    model = RewardModel.load(folder)
    longest = model.model.config.longest
    pairs = read_pairs(read_preferences(settings.pairs, settings.reading), model.tokenizer, longest=longest,
                       together=2 * longest, on_bad_row=settings.reading.on_bad_row)
    found = judged(model, pairs)
    make_folder(out, fix="give another folder")
    write_json(out / "reward.json", {"model": str(folder), "held_back": len(pairs), **found})
    print_result(told(found))
