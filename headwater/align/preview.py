"""`headwater reward preview`: a pair of dialogues as the model will read them, and where their rewards are taken."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from pydantic import Field
from rich.markup import escape

from headwater.align.preferences import Preference, PreferenceReading, each_preference
from headwater.align.reward_model import judged_ids
from headwater.dialogues.painting import CLOSES, OPENS, painted
from headwater.dialogues.reading import Tally
from headwater.errors import InputError
from headwater.progress import print_result
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.fitting import require_template


class PairPreviewSettings(Settings):
    """Which pair is shown, and as whose."""

    model: InputPath
    """The folder of the chat model, or of its tokenizer."""
    row: int = Field(default=1, ge=1)
    """Which pair of the files that can be learned from, counted from 1."""
    reading: PreferenceReading = PreferenceReading()
    """How the files are read."""


def preview(files: Sequence[Path], settings: PairPreviewSettings) -> None:
    """Print a pair with its special tokens. Raises `InputError` for a row that is no pair."""
    tokenizer = Tokenizer.load(settings.model)
    require_template(tokenizer, settings.model)
    tallies = [Tally(Path(file)) for file in files]
    found = list(islice(chain.from_iterable(each_preference(tally, settings.reading) for tally in tallies),
                        settings.row - 1, settings.row))
    if not found:
        raise InputError(f"the files have fewer than {settings.row} pairs", where=", ".join(map(str, files)),
                         fix="give a smaller row")
    [pair] = found
    form = next(tally.form for tally in reversed(tallies) if tally.form)
    print_result(escape(f"{pair.place}: {form} ({pair.language}), {_known(pair)}written with {tokenizer.chat.name}"))
    sides = {"chosen": pair.chosen, "rejected": pair.rejected}
    try:
        read = {name: judged_ids(messages, tokenizer) for name, messages in sides.items()}
    except InputError as error:
        raise InputError(error.what, where=pair.place, fix=error.fix) from None
    colours = sys.stdout.isatty()
    for name, ids in read.items():
        print_result(f"{name}:")
        print_result(painted(tokenizer, ids, [False] * (len(ids) - 1) + [True], colours=colours))
    how = "green" if colours else f"{OPENS}...{CLOSES}"
    shared = next((place for place, ids in enumerate(zip(*read.values())) if len(set(ids)) > 1),
                  min(map(len, read.values())))
    print_result(f"{len(read['chosen']):,} and {len(read['rejected']):,} tokens, the first {shared:,} the same; the "
                 f"reward is taken at the last ({how})")


def _known(pair: Preference) -> str:
    """What is known of the pair, for the heading."""
    told = [pair.domain, f"the chosen one is {pair.rating}" if pair.rating else ""]
    told += [f"the {name} one is {'safe' if safe else 'unsafe'}" for name, safe in
             (("chosen", pair.chosen_safe), ("rejected", pair.rejected_safe)) if safe is not None]
    return "".join(f"{one}, " for one in told if one)
