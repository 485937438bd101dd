"""The stage `atlas`: writes the invented world below one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headwater.artifacts import read_jsonl, write_json, write_jsonl
from headwater.atlas import careless, instructions, preferences, prompts
from headwater.atlas.arithmetic import problems
from headwater.atlas.choice import ChoiceQuestion, choice_questions, write_choice
from headwater.atlas.dialogues import split
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.needles import needles
from headwater.atlas.pages import count_pages, write_pages
from headwater.atlas.sizes import SIZES, SizeName
from headwater.atlas.splits import SPLITS
from headwater.atlas.tools import tool_dialogues
from headwater.atlas.world import LanguageCode, World, build_world
from headwater.progress import Bar, bar
from headwater.settings import Seed, Settings

ARITHMETIC = {"train": 300, "test": 100}
"""Problems of each split in the size `small`."""


class AtlasSettings(Settings):
    """`size` decides how much there is of everything, `seed` which world it is."""

    size: SizeName = "small"
    seed: Seed = 0


def run(settings: AtlasSettings, out: Path) -> dict[str, float]:
    """Write the world, its pages, benchmarks, dialogues, preferences, prompts, needles and tool dialogues below `out`.

    The bytes depend on the settings alone. Returns how many there are of each.
    """
    world = build_world(settings.size, settings.seed)
    questions = {language: choice_questions(world, language) for language in LANGUAGES.values()}
    with bar("atlas", count_pages(world)) as shown:
        figures = _write_pages(out, world, questions, shown)
        shown.note("questions and dialogues")
        write_json(out / "world.json", world.as_json())
        figures |= _write_benchmarks(out / "benchmarks", world, questions)
        figures |= _write_conversations(out, world)
    figures |= {"entities": len(world.entities), "facts": len(world.facts), "facts_never_asked": len(world.never_asked)}
    return {name: float(value) for name, value in figures.items()}


def _write_pages(out: Path, world: World, questions: dict[Language, list[ChoiceQuestion]], shown: Bar
                 ) -> dict[str, int]:
    kinds = write_pages(out / "pages", world, questions, shown)
    return {"pages": kinds.total()} | {f"pages_{kind}": count for kind, count in sorted(kinds.items())}


def _write_benchmarks(out: Path, world: World, questions: dict[Language, list[ChoiceQuestion]]) -> dict[str, int]:
    scale = SIZES[world.size].conversations
    arithmetic = problems(world, {name: max(6, round(count * scale)) for name, count in ARITHMETIC.items()})
    for language, asked in questions.items():
        write_choice(out / "choice" / language.code, asked, language)
        for name, items in arithmetic.items():
            write_jsonl(out / "arithmetic" / language.code / f"{name}.jsonl", [item.row(language) for item in items])
    return {"choice_questions": sum(map(len, questions.values())),
            "arithmetic_problems": len(questions) * sum(map(len, arithmetic.values()))}


def _write_conversations(out: Path, world: World) -> dict[str, int]:
    train, validation = split(world)
    rows: dict[str, list[dict[str, Any]]] = {
        "dialogues/train": train, "dialogues/validation": validation,
        "dialogues/careless": careless.dialogues(world), "dialogues/instructed": instructions.dialogues(world),
        "needles": needles(world, _clean_pages(out))}
    for name, make in {"preferences/helpful": preferences.helpful, "preferences/safe": preferences.safe,
                       "prompts": prompts.prompts, "redteam": prompts.redteam,
                       "instructions": instructions.instructions, "tools": tool_dialogues}.items():
        rows |= {f"{name}/{part}": make(world, part) for part in SPLITS}
    for name, items in rows.items():
        write_jsonl(out / f"{name}.jsonl", items)
    return {name.replace("/", "_"): len(items) for name, items in rows.items()}


def _clean_pages(out: Path) -> dict[LanguageCode, list[str]]:
    """Files of the clean pages, by language."""
    labels = [label for label in read_jsonl(out / "pages" / "labels.jsonl") if label["kind"] == "clean"]
    return {code: [label["file"] for label in labels if label["lang"] == code] for code in LANGUAGES}
