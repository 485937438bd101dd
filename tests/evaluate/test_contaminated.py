"""Scores without the questions that were found in the training text."""

import csv
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.artifacts import write_json
from headwater.corpus.decontamination.benchmarks import BenchmarkSource, Question, read_benchmark
from headwater.corpus.stage import CorpusSettings
from headwater.corpus.stage import run as make_corpus
from headwater.errors import InputError
from headwater.evaluate.answers import Answer
from headwater.evaluate.bootstrap import Figure
from headwater.evaluate.contaminated import Contamination, contaminated, difference, place, recorded, searched

BENCHMARKS = Path(__file__).parents[3] / "shared" / "data" / "benchmarks"
QUESTIONS = [
    "Which of the rivers that the old survey names flows to the northern sea through the town of Alder and its mills?",
    "What did the merchants of Birch carry over the pass in winter when the lower road lay under deep snow?",
    "Why was the bridge at Cedar built of timber rather than of the grey stone that is quarried behind it?",
    "When do the herds of Dogwood leave the high pastures for the valley, according to the shepherds' own calendar?"]


def asked(folder: Path, answers: list[Answer]) -> list[Question]:
    wanted = {one.where for one in answers}
    return [one for one in read_benchmark(BenchmarkSource(path=folder)).questions if place(one.file, one.row) in wanted]


def answer(where: str, right: float = 1) -> Answer:
    return Answer("rivers", where, "?", "A", "A", {"accuracy": right})


ANSWERS = [answer(f"test/rivers_test.csv:{row}", right) for row, right in enumerate((1, 0, 1, 1), 1)]


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Four questions in MMLU's layout."""
    folder = tmp_path / "rivers"
    (folder / "test").mkdir(parents=True)
    with open(folder / "test/rivers_test.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([text, "one", "two", "three", "four", "A"] for text in QUESTIONS)
    return folder


def article(number: int, more: str = "") -> str:
    told = " ".join(f"In the year {1800 + number * 7 + year} the council of the town kept {year * 3 + 2} boats on the "
                    f"water and wrote of their {year + number} journeys." for year in range(12))
    return f"{told} {more}"


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Articles of which two hold the first question and one the third."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, more in enumerate(("", QUESTIONS[0], QUESTIONS[2], "", QUESTIONS[0].upper())):
        (folder / f"{number}.txt").write_text(article(number, more))
    return folder


FOUND = {"test/rivers_test.csv:1", "test/rivers_test.csv:3"}


def test_texts_are_searched_for_the_questions_that_were_asked(benchmark: Path, texts: Path) -> None:
    found = searched(texts, asked(benchmark, ANSWERS))
    assert (set(found.where), found.origin, found.action) == (FOUND, "search", "none")
    assert searched(texts, asked(benchmark, ANSWERS[1:])).where == {"test/rivers_test.csv:3"}


def test_a_corpus_folders_training_split_is_searched(benchmark: Path, tmp_path: Path) -> None:
    for split, number in (("train", 2), ("validation", 1)):
        (tmp_path / "corpus" / split).mkdir(parents=True)
        table = pa.table({"text": [article(1), article(2, QUESTIONS[number])], "language": ["en", "en"]})
        pq.write_table(table, tmp_path / "corpus" / split / "0.parquet")
    assert searched(tmp_path / "corpus", asked(benchmark, ANSWERS)).where == {"test/rivers_test.csv:3"}


@pytest.mark.parametrize("action", ["drop", "cut"])
def test_the_corpus_stages_record_names_what_a_search_of_its_sources_finds(
        benchmark: Path, texts: Path, tmp_path: Path, action: str) -> None:
    make_corpus(CorpusSettings.parse({
        "sources": [{"path": texts, "format": "text"}], "near_duplicates": None, "repeated_sentences": None,
        "quality": None, "min_tokens": 1, "machine_text": None, "toxicity": None, "private_data": None,
        "contamination": {"benchmarks": [{"path": benchmark / "test"}], "action": action}}), tmp_path / "corpus")
    record = json.loads((tmp_path / "corpus/leaks.json").read_text())
    assert record["documents"] == 3
    assert {one["row"]: one["documents"] for one in record["questions"]} == {1: 2, 3: 1}
    found = recorded(tmp_path / "corpus", benchmark)
    assert found is not None
    assert (set(found.where), found.origin, found.action) == (FOUND, "record", action)
    # What was found is not in the text that was written.
    assert not searched(tmp_path / "corpus", asked(benchmark, ANSWERS)).where


def test_a_record_of_other_benchmarks_says_nothing(tmp_path: Path) -> None:
    assert recorded(tmp_path, tmp_path / "mmlu") is None
    write_json(tmp_path / "leaks.json", {"action": "drop", "documents": 0, "questions": [],
                                         "benchmarks": [{"name": "ceval", "path": str(tmp_path / "ceval")}]})
    assert recorded(tmp_path, tmp_path / "mmlu") is None
    found = recorded(tmp_path, tmp_path / "ceval")
    assert found is not None
    assert not found.where
    write_json(tmp_path / "leaks.json", {"questions": 3})
    with pytest.raises(InputError, match="not a record"):
        recorded(tmp_path, tmp_path / "ceval")


@pytest.mark.parametrize("source", ["", "data/test", "data/test/law.csv"], ids=["the folder", "inside", "a file"])
def test_places_are_told_below_the_evaluated_folder_wherever_the_source_lies(source: str, tmp_path: Path) -> None:
    file = Path("data/test/law.csv").relative_to(source).as_posix() if source != "data/test/law.csv" else "law.csv"
    write_json(tmp_path / "leaks.json", {
        "action": "drop", "documents": 1, "benchmarks": [{"name": "mine", "path": str(tmp_path / "mmlu" / source)}],
        "questions": [{"benchmark": "mine", "file": file, "row": 7, "documents": 1}]})
    found = recorded(tmp_path, tmp_path / "mmlu")
    assert found is not None
    assert found.where == {"data/test/law.csv:7"}


def test_scores_of_all_of_clean_and_of_contaminated_questions() -> None:
    found = contaminated(ANSWERS, Contamination(frozenset(FOUND), "search"), resamples=300)
    assert {part: found[part]["questions"] for part in ("all", "clean", "contaminated")} == {
        "all": 4, "clean": 2, "contaminated": 2}
    assert [found[part]["metrics"]["accuracy"]["value"] for part in ("all", "clean", "contaminated")] == [0.75, 0.5, 1]
    assert found["difference"]["accuracy"]["value"] == 0.5
    assert found["difference"]["accuracy"]["low"] < 0 < found["difference"]["accuracy"]["high"]


def test_without_a_contaminated_question_there_is_no_difference() -> None:
    found = contaminated(ANSWERS, Contamination(frozenset(), "search"), resamples=100)
    assert found["clean"] == found["all"]
    assert (found["contaminated"], found["difference"]) == ({"questions": 0, "metrics": {}}, {})


def test_the_interval_of_a_difference_adds_the_squares_of_the_distances() -> None:
    found = difference(Figure(0.7, 0.6, 0.75), Figure(0.5, 0.4, 0.55))
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2 - math.hypot(0.1, 0.05))
    assert found.high == pytest.approx(0.2 + math.hypot(0.05, 0.1))


def rows_of(file: Path, kind: str) -> list[str]:
    """The questions of an official file, read without the project's readers."""
    if kind == "gsm8k":
        return [json.loads(line)["question"] for line in file.read_text().splitlines()]
    if kind == "bbh":
        return [one["input"] for one in json.loads(file.read_text())["examples"]]
    with open(file, newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.reader(stream))
    column = {"mmlu": 0, "ceval": 1, "cmmlu": 1}[kind]
    return [row[column] for row in rows[kind != "mmlu":]]


@pytest.mark.parametrize(("kind", "files"), [
    ("mmlu", "data/test/*.csv"), ("ceval", "val/*.csv"), ("cmmlu", "data/test/*.csv"), ("gsm8k", "test.jsonl"),
    ("bbh", "bbh/*.json")])
def test_the_finders_places_are_those_of_the_official_files(kind: str, files: str) -> None:
    folder = BENCHMARKS / kind
    if not folder.is_dir():
        pytest.skip("no ../shared/data/benchmarks here")
    if not list(folder.glob(files)) and kind == "cmmlu":
        files = "*/test/*.csv"
    found = {place(one.file, one.row): one.text for one in read_benchmark(BenchmarkSource(path=folder)).questions}
    chosen = sorted(folder.glob(files))
    assert chosen
    for file in chosen:
        for row, text in enumerate(rows_of(file, kind), 1):
            where = f"{file.relative_to(folder).as_posix()}:{row}"
            assert found.get(where, "").strip() == text.strip(), where
