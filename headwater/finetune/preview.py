"""`headwater finetune preview`: one dialogue as the model will see it, what is learned of it in colour."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import chain, groupby, islice
from pathlib import Path

from pydantic import Field
from rich.markup import escape
from rich.text import Text

from headwater.dialogues.reading import Dialogue, ReadingSettings, each_dialogue
from headwater.errors import InputError
from headwater.progress import print_result
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Rendered, Tokenizer
from headwater.tokenizer.fitting import require_template

OPENS, CLOSES = "⟦", "⟧"
"""Around what is learned, where there are no colours."""
TYPED = "␛"
"""Before a special token's name that is plain text, where there are no colours."""


class PreviewSettings(Settings):
    """Which dialogue is shown, and as whose."""

    model: InputPath
    """The folder of the model to be tuned, or of its tokenizer."""
    row: int = Field(default=1, ge=1)
    """Which dialogue of the files, counted from 1."""
    reading: ReadingSettings = ReadingSettings()
    """How the files are read."""
    force_template: bool = False
    """Use the tokenizer's chat template even where the checkpoint records another."""


def preview(files: Sequence[Path], settings: PreviewSettings) -> None:
    """Print a dialogue with its special tokens, and count what is learned. Raises `InputError` for a row that is no
    dialogue or a chat template that does not fit."""
    tokenizer = Tokenizer.load(settings.model)
    require_template(tokenizer, settings.model, force=settings.force_template)
    found = list(islice(chain.from_iterable(each_dialogue(Path(file), settings.reading) for file in files),
                        settings.row - 1, settings.row))
    if not found:
        raise InputError(f"the files have fewer than {settings.row} dialogues", where=", ".join(map(str, files)),
                         fix="give a smaller row")
    dialogue, template = found[0], tokenizer.chat
    try:
        rendered = template.render(dialogue.messages)
    except InputError as error:
        raise InputError(error.what, where=dialogue.place, fix=error.fix) from None
    colours = sys.stdout.isatty()
    print_result(escape(f"{dialogue.place}: {dialogue.form} ({dialogue.language}), written with {template.name}"))
    print_result(painted(tokenizer, rendered, colours=colours))
    print_result(counted(tokenizer, dialogue, rendered, colours=colours))


def painted(tokenizer: Tokenizer, rendered: Rendered, *, colours: bool) -> Text:
    """The text of the ids with special ones by their names. In colours what is learned is green, and special ones are
    underlined; else what is learned stands between brackets, and a name that was typed behind ␛."""
    shown, names = Text(), re.compile("|".join(re.escape(tokenizer.piece(index)) for index in tokenizer.marks))
    for learned, run in groupby(zip(rendered.ids, rendered.loss_mask), key=lambda place: place[1]):
        shown.append(OPENS if learned and not colours else "")
        for special, part in groupby((index for index, _ in run), key=tokenizer.marks.__contains__):
            text = tokenizer.spell(list(part))
            style = ("bold green" if learned else "") + (" underline" if special else "")
            shown.append(text if special or colours else names.sub(rf"{TYPED}\g<0>", text), style=style * colours)
        shown.append(CLOSES if learned and not colours else "")
    return shown


def counted(tokenizer: Tokenizer, dialogue: Dialogue, rendered: Rendered, *, colours: bool) -> str:
    """What there is of tokens, and of them what is learned."""
    learned = sum(rendered.loss_mask)
    ends = sum(inside and index in tokenizer.marks for index, inside in zip(rendered.ids, rendered.loss_mask))
    answers = sum(message["role"] == "assistant" for message in dialogue.messages)
    calls = sum(bool(message.get("metadata")) for message in dialogue.messages)
    how = "green" if colours else f"{OPENS}...{CLOSES}"
    told = (f"{len(rendered.ids):,} tokens, {learned:,} learned ({how}), of these {ends} special; "
            f"{len(dialogue.messages)} messages, {answers} of the assistant")
    return told + (f", {calls} of these calls" if calls else "")

