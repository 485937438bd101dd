"""Multiple-choice questions on the facts, in the official file formats of MMLU (English) and C-Eval (Chinese)."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headwater.artifacts import write_text
from headwater.atlas import values
from headwater.atlas.language import Language, capital
from headwater.atlas.randomness import shuffled, stream
from headwater.atlas.world import SUBJECTS, Fact, Kind, LanguageCode, World, texts

DEV_QUESTIONS = 5
REPHRASED = "_rephrased"
_LISTS = {"region": values.REGIONS, "fish": values.FISH, "colour": values.COLOURS, "known_for": values.SIGHTS,
          "craft": values.CRAFTS, "occupation": values.OCCUPATIONS}
_PLACES: dict[str, Kind] = {"source": "mountain", "mouth": "lake", "river": "river", "birth_city": "city"}


@dataclass(frozen=True)
class ChoiceQuestion:
    """One question: four choices, of which the one at `right` is the fact's value."""

    fact: str
    subject: str
    question: str
    choices: tuple[str, ...]
    right: int

    @property
    def letter(self) -> str:
        return "ABCD"[self.right]

    @property
    def answer(self) -> str:
        return self.choices[self.right]


def choice_questions(world: World, language: Language) -> list[ChoiceQuestion]:
    """Every fact once, by subject; those in `world.rephrased` in a held-back phrasing, the letters in equal shares."""
    questions = []
    for subject, kind in SUBJECTS.items():
        for held_back in (False, True):
            facts = [fact for entity in world.of_kind(kind) for fact in world.facts_of(entity)
                     if (fact.id in world.rephrased) == held_back]
            name = subject + (REPHRASED if held_back else "")
            for index, fact in enumerate(shuffled(facts, stream(world.seed, "choice", name))):
                questions.append(_question(world, language, fact, name, index % 4))
    return questions


def _question(world: World, language: Language, fact: Fact, subject: str, right: int) -> ChoiceQuestion:
    rng = stream(world.seed, "choice", language.code, fact.id)
    wordings = language.questions[fact.key]
    template = rng.choice(wordings.held_back if subject.endswith(REPHRASED) else wordings.asks)
    # Both languages offer the same values: the stream of the draw does not name the language.
    wrong = distractors(world, fact, language.code, stream(world.seed, "distractors", fact.id))
    choices = [capital(text) for text in wrong]
    choices.insert(right, language.choice(fact))
    return ChoiceQuestion(fact.id, subject, language.ask(template, world.entities[fact.subject]), tuple(choices), right)


def distractors(world: World, fact: Fact, language: LanguageCode, rng: random.Random) -> list[str]:
    """Three values of the same attribute that are not true of the subject: near numbers, or things of the same sort."""
    others = [other for other in world.alike(fact) if other.value != fact.value]
    if isinstance(fact.value, int):
        number = fact.value
        near = sorted(others, key=lambda other: abs(int(other.value) - number))[:10]
        return [other.text(language) for other in rng.sample(near, 3)]
    same_sort = [other for other in others if _sort(other) == _sort(fact)]
    pool = [*shuffled(texts(same_sort, language), rng), *shuffled(_domain(world, fact, language), rng)]
    return [text for text in dict.fromkeys(pool) if text != fact.text(language)][:3]


def _sort(fact: Fact) -> str:
    """Lakes stand beside lakes and seas beside seas."""
    return str(fact.value).split("-")[0] if fact.attribute == "mouth" and str(fact.value).startswith("lake-") else ""


def _domain(world: World, fact: Fact, language: LanguageCode) -> list[str]:
    if fact.attribute in _LISTS:
        return [pair[0 if language == "en" else 1] for pair in _LISTS[fact.attribute]]
    if fact.attribute in _PLACES:
        places = [place.name(language) for place in world.of_kind(_PLACES[fact.attribute])]
        return places if _sort(fact) or fact.attribute != "mouth" else [
            pair[0 if language == "en" else 1] for pair in values.SEAS]
    return texts(world.alike(fact), language)


def write_choice(out: Path, questions: Iterable[ChoiceQuestion], language: Language) -> None:
    """`dev` holds five questions of each subject, for few-shot prompts; `test` (`val` in Chinese) holds the others."""
    by_subject: dict[str, list[ChoiceQuestion]] = {}
    for question in questions:
        by_subject.setdefault(question.subject, []).append(question)
    for subject, asked in by_subject.items():
        size = min(DEV_QUESTIONS, len(asked) // 3)
        for split, part in (("dev", asked[:size]), ("test" if language.code == "en" else "val", asked[size:])):
            text = _mmlu(part) if language.code == "en" else _ceval(part, explained=split == "dev")
            write_text(out / split / f"{subject}_{split}.csv", text)


def _mmlu(questions: list[ChoiceQuestion]) -> str:
    return _csv([[item.question, *item.choices, item.letter] for item in questions])


def _ceval(questions: list[ChoiceQuestion], explained: bool) -> str:
    header = ["id", "question", *"ABCD", "answer", *(["explanation"] if explained else [])]
    rows = [[str(index), item.question, *item.choices, item.letter,
             *([f"正确答案是{item.answer}。"] if explained else [])] for index, item in enumerate(questions)]
    return _csv([header, *rows])


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
