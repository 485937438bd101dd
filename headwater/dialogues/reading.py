"""Conversations as training sequences."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from headwater.dialogues.forms import Form, Notes, form_of, messages_of
from headwater.dialogues.rows import BadRow, Row, read_rows
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import Settings
from headwater.tokenizer import Message, Rendered, Tokenizer

OnBadRow = Literal["stop", "skip"]
_PLACEHOLDER = re.compile(r"\{\{\w+\}\}")


class ReadingSettings(Settings):
    """How files of dialogues are read."""

    on_bad_row: OnBadRow = "stop"
    """What a row does that is no dialogue, or that the model's chat format cannot say: stop the run, or be left out
    and counted aloud by its reason. A file that is no JSON always stops it."""
    ignored_keys: list[str] = []
    """Keys of a row or of its messages that are no part of the dialogue, beside id, language, source, category and
    their like."""


class Dialogue(NamedTuple):
    """One conversation."""

    messages: list[Message]
    language: str
    place: str = ""
    """File and line, for messages."""
    form: str = ""
    """What its file calls such a row."""


class Tally:
    """What was found in a file, told when it has been read; reasons with the places of the first rows."""

    def __init__(self, path: Path) -> None:
        self.path, self.form = path, ""
        self.languages: Counter[str] = Counter()
        self.notes: Notes = Counter()
        self.left_out: dict[str, list[str]] = {}

    def leave_out(self, error: BadRow, place: str) -> None:
        self.left_out.setdefault(error.reason, []).append(place.removeprefix(f"{self.path}, "))

    def tell(self) -> None:
        read = ", ".join(f"{language} {count:,}" for language, count in sorted(self.languages.items()))
        say(f"{self.path}: {self.languages.total():,} {self.form or 'rows'}" + (f" ({read})" if read else ""))
        for note, count in self.notes.items():
            if count:
                say(f"  {count:,} times: {note}")
        for reason, places in sorted(self.left_out.items(), key=lambda item: -len(item[1])):
            more = ", ..." if len(places) > 3 else ""
            say(f"  {len(places):,} left out: {reason} ({', '.join(places[:3])}{more})")


def read_dialogues(paths: list[Path], reading: ReadingSettings | None = None) -> list[Dialogue]:
    """Dialogues of JSON-lines files or JSON arrays, every file in one form of `forms.FORMS`, said aloud.

    A row's `language` is taken as it says, else zh or en by its script. Raises `InputError` with file and line for a
    row that is no dialogue, unless `reading` says to leave it out.
    """
    found = [dialogue for path in paths for dialogue in each_dialogue(path, reading or ReadingSettings())]
    if not found:
        raise InputError("all rows were left out", where=", ".join(map(str, paths)), fix="correct them, or give others")
    return found


def each_dialogue(path: Path, reading: ReadingSettings) -> Iterator[Dialogue]:
    """The dialogues of one file, read as a stream."""
    tally = Tally(path)
    yield from each_row(reading, tally, form_of,
                        lambda row, form: [_dialogue(row, form, tally.notes, reading.ignored_keys)])
    tally.tell()


class Spoken(Protocol):
    """What is read from a row."""

    @property
    def language(self) -> str: ...


class Named(Protocol):
    """A form of rows."""

    @property
    def name(self) -> str: ...


S = TypeVar("S", bound=Spoken)
F = TypeVar("F", bound=Named)


def each_row(reading: ReadingSettings, tally: Tally, form_of: Callable[[Any, Collection[str]], F],
             read: Callable[[Row, F], Iterable[S]]) -> Iterator[S]:
    """What `read` finds in the rows of the tally's file, which are all of one form. Raises `InputError` for a bad row,
    or leaves it out."""
    first: F | None = None
    row = None
    for row in read_rows(tally.path):
        try:
            form = form_of(row.value, reading.ignored_keys)
            if first is not None and first != form:
                raise BadRow(f"{form.name} in a file of {first.name}",
                             fix="put rows of one form into a file")
            found = list(read(row, form))
        except BadRow as error:
            if reading.on_bad_row == "stop":
                turn = f", turn {error.turn}" if error.turn is not None else ""
                raise InputError(error.reason, where=f"{row.place}{turn}",
                                 fix=_or_skip(error.fix)) from None
            tally.leave_out(error, row.place)
            continue
        first, tally.form = form, form.name
        tally.languages.update(one.language for one in found)
        yield from found
    if row is None:
        raise InputError("the file is empty: not one row is in it", where=tally.path, fix="give files with rows alone")


def _or_skip(fix: str | None) -> str:
    """What to do about a row, and the other way."""
    skip = "reading.on_bad_row=skip leaves such rows out"
    return skip if fix is None else f"{fix}{'' if fix.endswith('?') else ';'} {skip}"


def _dialogue(row: Row, form: Form, notes: Notes, ignored: list[str]) -> Dialogue:
    messages = messages_of(row.value, form, notes, ignored)
    if any(_PLACEHOLDER.search(message["content"]) for message in messages if message["role"] == "assistant"):
        notes["a placeholder such as {{name}} in an answer, which is learned as it stands"] += 1
    language = row.value.get("language") or row.value.get("lang") or language_of(messages)
    return Dialogue(messages, str(language), row.place, form.name)


def language_of(messages: list[Message]) -> str:
    """zh where a fifth of the characters or more are Han, else en."""
    text = "".join(message["content"] for message in messages)
    return "zh" if sum("\u4e00" <= character <= "\u9fff" for character in text) >= len(text) / 5 else "en"


def in_language(text: str, language: str) -> bool:
    """Whether the text's letters are of the language's script: mostly Han for zh, none of them Han otherwise.

    A text without letters (a bare number) is of any language.
    """
    letters = [character for character in text if character.isalpha()]
    han = sum(unicodedata.name(character, "").startswith("CJK") for character in letters)
    return not letters or (han > len(letters) / 2 if language == "zh" else han == 0)


def render_all(dialogues: list[Dialogue], tokenizer: Tokenizer, longest: int, on_bad_row: OnBadRow = "stop", *,
               cut: bool = True, longer: str = "raise trainer.sequence_length") -> list[Rendered]:
    """Every dialogue that `render_each` renders. Raises `InputError` where there is none; longer: what to do then for
    longer ones."""
    rendered = [one for one in render_each(dialogues, tokenizer, longest, on_bad_row, cut=cut) if one is not None]
    if not rendered:
        raise InputError(f"no dialogue fits {longest} tokens, or none can be said in {tokenizer.chat.name}",
                         fix=f"{longer}, or use a model with such a chat format")
    return rendered


def answer_by_answer(dialogues: list[Dialogue]) -> list[Dialogue]:
    """A dialogue for each answer, which it ends with."""
    return [dialogue._replace(messages=dialogue.messages[:end]) for dialogue in dialogues
            for end, message in enumerate(dialogue.messages, 1) if message["role"] == "assistant"]


def render_each(dialogues: list[Dialogue], tokenizer: Tokenizer, longest: int, on_bad_row: OnBadRow = "stop", *,
                cut: bool = True) -> list[Rendered | None]:
    """Every dialogue as one sequence, all turns in it. One longer than `longest` tokens keeps its first whole rounds,
    with `cut`.

    Dialogues of which nothing fits are None, and counted aloud. Raises `InputError` with file and line
    for one that the chat format cannot say (tools, where it has none), unless `on_bad_row` is skip.
    """
    rendered: list[Rendered | None] = []
    shorter = 0
    refused: Counter[str] = Counter()
    for dialogue in dialogues:
        try:
            whole = tokenizer.chat.render(dialogue.messages)
        except InputError as error:
            if on_bad_row == "stop":
                raise InputError(error.what, where=dialogue.place or None, fix=_or_skip(error.fix)) from None
            refused[re.sub(r"turn \d+", "a turn", error.what)] += 1
            rendered.append(None)
            continue
        fits = len(whole.ids) <= longest
        rendered.append(whole if fits else _first_rounds(dialogue.messages, tokenizer, longest) if cut else None)
        shorter += not fits and rendered[-1] is not None
    for reason, count in refused.most_common():
        say(f"of {len(dialogues)} dialogues, {count} were left out: {reason}")
    dropped = rendered.count(None) - refused.total()
    if dropped or shorter:
        say(f"of {len(dialogues)} dialogues, {shorter} were cut to the rounds that fit {longest} tokens, "
            f"{dropped} left out")
    return rendered


def _first_rounds(messages: list[Message], tokenizer: Tokenizer, longest: int) -> Rendered | None:
    """The longest beginning that fits and ends before a question."""
    ends = [number for number, message in enumerate(messages) if message["role"] == "user"][1:]
    for end in reversed(ends):
        rendered: Any = tokenizer.chat.render(messages[:end])
        if len(rendered.ids) <= longest:
            return rendered
    return None
