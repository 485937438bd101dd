"""Official benchmarks on the report's page, from made-up answers."""

import json
import random

import pytest

from headwater.artifacts import write_json
from headwater.evaluate.answers import Answer, write_answers
from headwater.evaluate.benchmarks.definition import Benchmark
from headwater.evaluate.benchmarks.reading import Fault, Reading
from headwater.evaluate.compare import compare
from headwater.evaluate.contaminated import Contamination
from headwater.evaluate.entries import asked, entry
from headwater.evaluate.published import published
from headwater.evaluate.scores import by_subject
from headwater.recipe import sections
from headwater.recipe.official import official, without
from headwater.recipe.report import render
from headwater.recipe.summary import summary

GROUPS = {"law": ("Humanities",), "physics": ("STEM",), "food": ("Other", "China specific")}
SKILLS = {"pretrain": 0.3, "train": 0.62}


def none_of(*_: object) -> None:
    raise AssertionError("not asked here")


def defined(name: str, **options) -> Benchmark:
    language, shots = options.pop("language", "en"), options.pop("shots", 5)
    return Benchmark(name, language, shots, "accuracy", none_of, none_of, none_of, none_of, **options)


BENCHMARKS = [defined("mmlu", groups=GROUPS, chance=0.25),
              defined("cmmlu", language="zh", groups=GROUPS, chance=0.25, averaged="subjects"),
              defined("gsm8k", shots=8)]


def made_up(benchmark: Benchmark, skill: float) -> list[Answer]:
    draws = random.Random(f"{benchmark.name} {skill}")
    subjects = list(benchmark.groups) or [benchmark.name]
    return [Answer(subject, f"test/{subject}_test.csv:{row}", f"{subject} <b>question</b> {row} 问题", "A", "B",
                   {"accuracy": float(draws.random() < skill)}, said=f"I say <i>{row}</i>")
            for subject in subjects for row in range(1, 61)]


@pytest.fixture
def finished(run, tmp_path):
    """A run whose models were asked official benchmarks."""
    run()
    folder, results, rows = tmp_path / "run" / "evaluate", {}, []
    faults = Reading((), (Fault("a", "missing answer", False), Fault("b", "lower-case letter", True)))
    known = {"train": published(["Llama-2-7b"])}
    for benchmark in BENCHMARKS:
        answers = {model: made_up(benchmark, skill) for model, skill in SKILLS.items()}
        for model, those in answers.items():
            found = Contamination(frozenset(f"test/law_test.csv:{row}" for row in range(9)), "record", "drop")
            written = entry(benchmark, faults, those, resamples=200,
                            contamination=found if benchmark.name == "mmlu" else None)
            results.setdefault(model, {}).setdefault(benchmark.name, {})[benchmark.language] = written
            for subject, part in by_subject(those).items():
                write_answers(folder / "answers" / model / benchmark.name / f"{subject}.jsonl", part)
        rows.append(asked(benchmark, answers, known))
    results["train"]["atlas_choice"] = {"en": {"questions": 1, "accuracy": 1.0, "subjects": {}}}
    write_json(folder / "results.json", results)
    write_json(folder / "comparison.json", compare(rows, groups=True, resamples=200).as_json())
    return tmp_path / "run"


def test_every_benchmark_has_scores_intervals_and_marks(finished):
    found = official(finished)
    assert [row["title"] for row in found["rows"]] == ["MMLU", "CMMLU", "GSM8K"]
    assert found["models"] == list(SKILLS)
    weak, strong = found["rows"][0]["cells"]
    assert (weak["mark"], weak["best"]) == ("", False)
    assert (strong["mark"], strong["best"]) == ("↑", True)
    assert strong["published"] == "Llama-2-7B published: 45.3 % (secondary)"
    assert found["rows"][1]["asked"] == "accuracy, 5 examples"


def test_groups_and_subjects_stand_in_one_table(finished):
    parts = official(finished)["parts"]
    assert list(parts) == ["MMLU", "CMMLU"]
    assert [row["name"] for row in parts["CMMLU"]["rows"]] == [
        "Humanities", "STEM", "Other", "China specific", "law", "physics", "food"]
    assert parts["MMLU"]["rows"][0]["questions"] == 60


def test_leaked_questions_and_faults_are_told(finished):
    found = official(finished)
    assert [(row["model"], row["action"], [count for count, _ in row["parts"]]) for row in found["contaminated"]] == [
        ("pretrain", "drop", [180, 172, 8]), ("train", "drop", [180, 172, 8])]
    assert found["faults"]["MMLU"] == "lower-case letter: 1 can be asked; missing answer: 1 cannot be asked"


def test_some_wrong_answers_of_the_last_model_are_shown_as_text(finished):
    found = official(finished)["wrong"]
    assert {one["model"] for one in found} == {"train"}
    assert [len(one["answers"]) for one in found] == [3, 3, 3]
    page = render(finished)
    assert "&lt;b&gt;question" in page
    assert "<b>question" not in page
    assert "<i>" not in page


def test_the_page_draws_a_plot_of_all_and_one_for_each_benchmark_with_groups(finished):
    page = render(finished)
    section = page[page.index('id="benchmarks"'):page.index("The run's own questions")]
    assert section.count("<figure>") == 3
    assert "China specific" in section
    assert section.count("★") >= 4
    assert page == render(finished)


def test_official_figures_do_not_stand_in_the_runs_own_table_too(finished):
    manifest = finished / "evaluate" / "manifest.json"
    if not manifest.exists():
        values = json.loads((finished / "train" / "manifest.json").read_text())
        manifest = finished / "train" / "manifest.json"
    else:
        values = json.loads(manifest.read_text())
    values["figures"] |= {"train/mmlu.en.accuracy": 0.6, "train/atlas_choice.en.accuracy": 0.5}
    manifest.write_text(json.dumps(values))
    figures = summary(finished)
    shown = [title for title, _, _ in sections.benchmark_table(without(figures, official(finished), finished))[1]]
    assert any(title.startswith("atlas choice") for title in shown)
    assert not any(title.startswith("mmlu") for title in shown)
    assert "mmlu.en.accuracy" in figures["stages"]["train"]["figures"]


def test_without_a_comparison_the_scores_stand_without_marks(finished):
    (finished / "evaluate" / "comparison.json").unlink()
    found = official(finished)
    assert all(not cell["mark"] and not cell["best"] for row in found["rows"] for cell in row["cells"])
    assert "★" not in render(finished)


def test_a_run_without_official_benchmarks_has_none(run, tmp_path):
    run()
    assert official(tmp_path / "run") == {}


def test_where_less_is_better_the_best_is_the_lowest_and_what_is_shown_is_what_counts_against_it(run, tmp_path):
    run()
    folder, abuse = tmp_path / "run" / "evaluate", defined("toxigen", shots=0, more_is_better=False)
    answers = {model: made_up(abuse, skill) for model, skill in SKILLS.items()}
    write_json(folder / "results.json", {model: {"toxigen": {"en": entry(abuse, Reading(()), those, resamples=100)}}
                                         for model, those in answers.items()})
    write_json(folder / "comparison.json", compare([asked(abuse, answers, {})], resamples=100).as_json())
    write_answers(folder / "answers" / "train" / "toxigen" / "toxigen.jsonl", answers["train"])
    found = official(tmp_path / "run")
    weak, strong = found["rows"][0]["cells"]
    assert (weak["best"], strong["best"], strong["mark"]) == (True, False, "↑")
    assert found["rows"][0]["asked"] == "accuracy (less is better), without examples"
    assert found["wrong"][0]["number"] == sum(one.metrics["accuracy"] for one in answers["train"])
