from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from headwater.atlas.choice import choice_questions
from headwater.atlas.language import ENGLISH, LANGUAGES
from headwater.atlas.world import SUBJECTS, build_world

NAMES = sorted([*SUBJECTS, *(f"{subject}_rephrased" for subject in SUBJECTS)])


def _mmlu(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [dict(zip(("question", *"ABCD", "answer"), row, strict=True)) for row in csv.reader(file)]


def _ceval(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _all(atlas, lang: str) -> list[tuple[str, dict[str, str]]]:
    folder = atlas.folder / "benchmarks" / "choice" / lang
    read = _mmlu if lang == "en" else _ceval
    return [(path.stem.rsplit("_", 1)[0], row) for path in sorted(folder.rglob("*.csv")) for row in read(path)]


def test_files_are_named_as_the_official_ones(atlas):
    for lang, split in (("en", "test"), ("zh", "val")):
        folder = atlas.folder / "benchmarks" / "choice" / lang
        for part in ("dev", split):
            assert sorted(path.name for path in (folder / part).iterdir()) == sorted(f"{n}_{part}.csv" for n in NAMES)


def test_chinese_files_have_the_official_headers(atlas):
    folder = atlas.folder / "benchmarks" / "choice" / "zh"
    header = "id,question,A,B,C,D,answer"
    assert (folder / "val" / "lakes_val.csv").read_text(encoding="utf-8").split("\n")[0] == header
    assert (folder / "dev" / "lakes_dev.csv").read_text(encoding="utf-8").split("\n")[0] == header + ",explanation"
    assert [row["id"] for row in _ceval(folder / "val" / "lakes_val.csv")][:3] == ["0", "1", "2"]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_fact_is_asked_once_and_exactly_one_choice_is_true(atlas, lang):
    rows = _all(atlas, lang)
    assert len(rows) == len(atlas.world.facts)
    language = LANGUAGES[lang]
    by_question = {}
    for fact in atlas.world.facts.values():
        wordings = language.questions[fact.key]
        for template in (*wordings.asks, *wordings.held_back):
            question = language.ask(template, atlas.world.entities[fact.subject])
            assert question not in by_question
            by_question[question] = (fact, template in wordings.held_back)
    seen = set()
    for subject, row in rows:
        fact, held_back = by_question[row["question"]]
        choices = [row[letter] for letter in "ABCD"]
        assert len(set(choices)) == 4
        assert choices.count(language.choice(fact)) == 1
        assert row[row["answer"]] == language.choice(fact)
        assert held_back == subject.endswith("_rephrased") == (fact.id in atlas.world.rephrased)
        seen.add(fact.id)
    assert len(seen) == len(rows)


def test_answer_letters_are_balanced():
    counts = Counter(question.letter for question in choice_questions(build_world("small", 0), ENGLISH))
    assert max(counts.values()) - min(counts.values()) <= 8


def test_both_languages_offer_the_same_values(atlas):
    by_fact = [{question.fact: question for question in choice_questions(atlas.world, language)}
               for language in LANGUAGES.values()]
    for name, fact in atlas.world.facts.items():
        if isinstance(fact.value, int):
            english, chinese = ([re.sub(r"\D", "", choice) for choice in side[name].choices] for side in by_fact)
            assert english == chinese


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_arithmetic_steps_are_right_and_end_in_the_answer(atlas, lang):
    for split in ("train", "test"):
        rows = atlas.rows(f"benchmarks/arithmetic/{lang}/{split}")
        assert rows
        for row in rows:
            body, result = re.fullmatch(r"(.*)\n#### (\d+)", row["answer"], re.DOTALL).groups()
            marks = re.findall(r"<<(\d+)([-+*])(\d+)=(\d+)>>(\d+)", body)
            assert len(marks) == len(body.split("\n"))
            for left, sign, right, equals, shown in marks:
                a, b = int(left), int(right)
                assert {"+": a + b, "-": a - b, "*": a * b}[sign] == int(equals) == int(shown)
            assert marks[-1][3] == result
            # The first step works on numbers the question gives (a round trip doubles one).
            assert marks[0][0] in re.findall(r"\d+", row["question"])


def test_arithmetic_splits_share_no_problem(atlas):
    for lang in ("en", "zh"):
        train, test = ({row["question"] for row in atlas.rows(f"benchmarks/arithmetic/{lang}/{split}")}
                       for split in ("train", "test"))
        assert not train & test
