"""`headwater reward judge`: a reward model on pairs that it has never met."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from headwater.align.agreement import judged, told
from headwater.align.pairs import read_pairs
from headwater.align.preferences import PreferenceReading, read_preferences
from headwater.align.reward_model import REPORT, RewardModel
from headwater.artifacts import claim, hash_file, write_json
from headwater.model.task_head import WEIGHTS
from headwater.progress import print_result
from headwater.settings import InputPath, Settings


class JudgeSettings(Settings):
    """Which pairs."""

    pairs: list[InputPath] = Field(min_length=1)
    """In any form that the reward stage reads."""
    reading: PreferenceReading = PreferenceReading()
    """How the files are read."""


def judge(folder: Path, out: Path, settings: JudgeSettings) -> None:
    """Print the tables and write `reward.json` into `out`; the model stays as it is. Raises `InputError` for a folder
    that holds another judgement."""
    model = RewardModel.load(folder)
    what = {"model": str(folder.resolve()), "head": hash_file(folder / WEIGHTS),
            "pairs": [hash_file(path) for path in settings.pairs], "reading": settings.reading.model_dump(mode="json")}
    longest = model.model.config.longest
    pairs = read_pairs(read_preferences(settings.pairs, settings.reading), model.tokenizer, longest=longest,
                       together=2 * longest, on_bad_row=settings.reading.on_bad_row)
    claim(out, what, "judgement", REPORT)
    found = judged(model, pairs)
    write_json(out / REPORT, {"model": str(folder), "held_back": len(pairs), **found})
    print_result(told(found))
