import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from headwater.errors import HeadwaterError, InputError
from headwater.evaluate.answers import read_answers
from headwater.evaluate.harness import run as harness
from headwater.evaluate.stage import EvaluateSettings, run

SUBJECTS = ("anatomy", "headwaters", "virology")
ROW = "Where is it,here,there,nowhere,gone,{}\n"


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    """Three subjects, one of them of our own; a row without an answer, a letter in full width, a question twice."""
    for subject in SUBJECTS:
        for split, rows in (("dev", "What is it,a,b,c,d,A\n"), ("test", "".join(
                f"How far is {subject} {number},1,2,3,4,{'ABCD'[number % 4]}\n" for number in range(4)))):
            file = tmp_path / "mmlu" / split / f"{subject}_{split}.csv"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(rows, encoding="utf-8")
    with open(tmp_path / "mmlu/test/anatomy_test.csv", "a", encoding="utf-8") as stream:
        stream.write(ROW.format("") + ROW.format("Ｂ") + "How far is anatomy 0,1,2,3,4,A\n")
    return tmp_path / "mmlu"


def settings(model: Path, mmlu: Path, **asked: object) -> EvaluateSettings:
    return EvaluateSettings.parse({"models": {"small": {"path": model}},
                                   "benchmarks": {"mmlu": {"folder": mmlu, "shots": 1, **asked}}})


def test_figures_answers_and_faults_are_written(small_model, mmlu, tmp_path, capsys):
    figures = run(settings(small_model, mmlu), tmp_path / "out")
    found = json.loads((tmp_path / "out/results.json").read_text())["small"]["mmlu"]["en"]
    kept = tmp_path / "out/answers/small/mmlu"
    answers = [one for subject in SUBJECTS for one in read_answers(kept / f"{subject}.jsonl")]
    right = sum(one.given == one.wanted for one in answers)
    assert figures == {"small/mmlu.en.accuracy": right / len(answers)}
    assert (found["questions"], len(answers)) == (14, 14)
    kept, lost = {"asked": 1, "left_out": 0}, {"asked": 0, "left_out": 1}
    assert found["faults"] == {"missing answer": lost, "full-width letter": kept, "duplicate": kept}
    rows = json.loads((tmp_path / "out/faults.json").read_text())["mmlu"]
    assert {"where": "test/anatomy_test.csv:5", "kind": "missing answer", "asked": False} in rows
    assert len(rows) == 3
    told = capsys.readouterr().err
    assert "missing answer 1 (1 not asked)" in told
    assert f"{found['prompts']['cut']} prompts were longer" in told  # the model reads 64 tokens
    assert found["prompts"] == {"shortened": 14, "examples_left_out": 14, "cut": sum(one.cut for one in answers)}
    assert found["prompts"]["cut"] == 14
    assert found["subjects"]["headwaters"]["questions"] == 4
    assert {one.where for one in answers if one.wanted == "B"} >= {"test/anatomy_test.csv:6"}


def test_what_is_answered_is_not_asked_again(small_model, mmlu, tmp_path, monkeypatch):
    whole = run(settings(small_model, mmlu), tmp_path / "out")
    (tmp_path / "out/answers/small/mmlu/virology.jsonl").unlink()
    asked = []
    monkeypatch.setattr(harness, "ask", lambda model, benchmark, part, *rest, _ask=harness.ask, **how:
                        asked.append(part.subject) or _ask(model, benchmark, part, *rest, **how))
    assert run(settings(small_model, mmlu), tmp_path / "out") == whole
    assert asked == ["virology"]


def test_a_damaged_file_of_answers_is_named(small_model, mmlu, tmp_path):
    file = tmp_path / "out/answers/small/mmlu/virology.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"subject": 1}\n')
    with pytest.raises(InputError, match=r"virology.jsonl:1"):
        run(settings(small_model, mmlu), tmp_path / "out")


def test_a_limit_is_spread_over_the_subjects(small_model, mmlu, tmp_path):
    run(settings(small_model, mmlu, limit=6), tmp_path / "out")
    subjects = json.loads((tmp_path / "out/results.json").read_text())["small"]["mmlu"]["en"]["subjects"]
    assert sum(one["questions"] for one in subjects.values()) == 6
    assert set(subjects) == set(SUBJECTS)


def test_ones_own_benchmark_borrows_an_official_format(small_model, mmlu, tmp_path):
    own = EvaluateSettings.parse({"models": {"small": {"path": small_model}}, "benchmarks": {
        "rivers": {"folder": mmlu, "format": "mmlu", "shots": 0}}})
    assert set(run(own, tmp_path / "out")) == {"small/rivers.en.accuracy"}


@pytest.mark.parametrize(("asked", "message"), [
    ({"benchmarks": {"mmlv": {"folder": "x"}}}, "did you mean 'mmlu'"),
    ({"benchmarks": {"own": {"folder": "x", "format": "gsm9k"}}}, "did you mean 'gsm8k'"),
    ({"benchmarks": {"mmlu": {"folder": "x", "shot": 5}}}, "shots"),
    ({"benchmarks": {"mmlu": {"folder": "x"}}, "choice": {"mmlu": {"en": "x"}}}, "'mmlu' names two things"),
    ({"texts": {"text": "x"}}, "'text' names two things"),
    ({"benchmarks": {"mmlu": {"folder": "x"}}, "against": "large"}, "no model 'large' among small"),
    ({"benchmarks": {"mmlu": {"folder": "x", "execute_code": True}}}, "not judged by running programs"),
    ({"benchmarks": {"mmlu": {"folder": "x", "code": {"seconds": 9}}}}, "not judged by running programs"),
    ({"training_text": "x"}, "training_text says something of official benchmarks alone"),
    ({}, "nothing is measured"),
])
def test_settings_that_cannot_be_meant_are_refused(asked, message):
    with pytest.raises(HeadwaterError, match=message):
        EvaluateSettings.parse({"models": {"small": {"path": "x"}}, **asked})


def test_settings_that_are_written_out_in_full_are_read_again(mmlu):
    """As a recipe's are whose variables were filled in, and those of the process beside a training."""
    asked = settings(Path("x"), mmlu)
    assert EvaluateSettings.parse(asked.model_dump(mode="json")) == asked


def test_a_folder_without_the_benchmark_is_named_before_any_model_is_loaded(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        run(settings(tmp_path / "no model", tmp_path / "empty"), tmp_path / "out")


def test_bits_per_byte_of_any_text(small_model, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/one.txt").write_text("The river is long. " * 30, encoding="utf-8")
    (tmp_path / "notes/two.jsonl").write_text('{"text": "河流很长，流入大海。"}\n', encoding="utf-8")
    asked = EvaluateSettings.parse({"models": {"small": {"path": small_model}}, "texts": {"notes": tmp_path / "notes"}})
    figures = run(asked, tmp_path / "out")
    assert set(figures) == {"small/notes.en.bits_per_byte", "small/notes.zh.bits_per_byte"}
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no text here"):
        run(asked.model_copy(update={"texts": {"none": tmp_path / "none"}}), tmp_path / "out2")


def test_programs_are_not_run_unless_it_is_said():
    asked = {"models": {"small": {"path": "x"}}, "benchmarks": {"humaneval": {"folder": "y"}}}
    with pytest.raises(HeadwaterError, match=r"set benchmarks\.humaneval\.execute_code"):
        EvaluateSettings.parse(asked)


def test_questions_found_in_the_training_text_are_scored_apart_beside_rows_that_cannot_be_read(small_model, mmlu,
                                                                                                tmp_path):
    question = "Which of the rivers that the old survey names flows to the northern sea through the town of Alder"
    with open(mmlu / "test/headwaters_test.csv", "a", encoding="utf-8") as stream:
        stream.write(f'{question},a,b,c,d,A\n"never closed,1,2,3,4,A\nHow deep is it,1,2,3,4,B\n')
    text = tmp_path / "text.txt"
    text.write_text(f"Once we asked: {question}? Nobody knew.\n" + "Other words. " * 50, encoding="utf-8")
    asked = settings(small_model, mmlu)
    run(asked.model_copy(update={"training_text": text}), tmp_path / "out")
    found = json.loads((tmp_path / "out/results.json").read_text())["small"]["mmlu"]["en"]
    assert found["contaminated"]["contaminated"]["questions"] == 1
    assert found["contaminated"]["where"] == ["test/headwaters_test.csv:5"]
    assert found["contaminated"]["clean"]["questions"] == found["questions"] - 1 == 15
    assert found["faults"]["unreadable"] == {"asked": 0, "left_out": 1}  # and the row behind the quote is asked


def test_a_model_without_a_chat_template_is_not_asked_through_one(shared, mmlu, tmp_path):
    with pytest.raises(InputError, match=r"no chat template(.|\n)*mmlu.chat=false"):
        run(settings(shared / "checkpoints/stories260K-hf", mmlu, chat=True), tmp_path / "out")


def test_examples_left_out_are_told(small_model, mmlu, tmp_path, capsys):
    run(settings(small_model, mmlu), tmp_path / "out")
    assert "solved examples were left out" in capsys.readouterr().err


def test_a_setting_that_has_no_effect_is_told(small_model, mmlu, tmp_path):
    with pytest.raises(InputError, match="max_tokens has no effect"):
        run(settings(small_model, mmlu, max_tokens=9), tmp_path / "out")


def test_what_was_left_out_is_still_told_when_no_question_is_asked_again(small_model, mmlu, tmp_path, capsys):
    run(settings(small_model, mmlu), tmp_path / "out")
    first = json.loads((tmp_path / "out/results.json").read_text())
    capsys.readouterr()
    run(settings(small_model, mmlu), tmp_path / "out")
    assert "14 prompts were longer" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/results.json").read_text()) == first


@pytest.mark.parametrize(("asked", "message"), [
    ({"mmlu": {"shots": 1}, "gsm8k": {"answer": "letter"}}, "gsm8k is not answered by letter"),
    ({"mmlu": {"shots": 1}, "gsm8k": {}}, "gsm8k asks for answers of 400 tokens; small reads 64"),
    ({"gsm8k": {"max_tokens": 8}, "mmlu": {"max_tokens": 8}}, "max_tokens has no effect")])
def test_what_a_benchmark_cannot_be_asked_is_refused_before_any_is(small_model, mmlu, tmp_path, asked, message):
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k/test.jsonl").write_text('{"question": "1 + 1?", "answer": "Two. #### 2"}\n')
    given = {name: {"folder": mmlu if name == "mmlu" else tmp_path / "gsm8k", **one} for name, one in asked.items()}
    with pytest.raises(InputError, match=message):
        run(EvaluateSettings.parse({"models": {"small": {"path": small_model}}, "benchmarks": given}), tmp_path / "out")
    assert not (tmp_path / "out/answers").exists()


def test_a_model_without_a_tokenizer_is_told_before_the_first_is_asked(small_model, mmlu, tmp_path):
    (tmp_path / "bare").mkdir()
    asked = EvaluateSettings.parse({"models": {"small": {"path": small_model}, "bare": {"path": tmp_path / "bare"}},
                                    "benchmarks": {"mmlu": {"folder": mmlu}}})
    with pytest.raises(InputError, match="bare"):
        run(asked, tmp_path / "out")
    assert not (tmp_path / "out/answers").exists()


def test_files_that_would_be_lost_without_a_word_are_told(small_model, mmlu, tmp_path):
    (mmlu / "test/empty_test.csv").write_text("")
    (mmlu / "test/virology_test.csv").rename(mmlu / "test/virology_test.CSV")
    run(settings(small_model, mmlu), tmp_path / "out")
    found = json.loads((tmp_path / "out/results.json").read_text())["small"]["mmlu"]["en"]
    assert found["faults"]["empty file"] == {"asked": 0, "left_out": 1}
    assert set(found["subjects"]) == set(SUBJECTS)
    (mmlu / "test/anatomy.csv").write_text(ROW.format("A"))
    with pytest.raises(InputError, match=r"anatomy.csv and anatomy_test.csv hold the same subject"):
        run(settings(small_model, mmlu), tmp_path / "out")
    (mmlu / "data/test").mkdir(parents=True)
    with pytest.raises(InputError, match="test and data/test are both here"):
        run(settings(small_model, mmlu), tmp_path / "out")


def test_two_passages_of_one_name_are_refused(small_model, tmp_path):
    for name in ("x.txt", "x.jsonl"):
        (tmp_path / name).write_text('{"text": "By the river stands a mill"}\n')
    asked = EvaluateSettings.parse({"models": {"small": {"path": small_model}},
                                    "benchmarks": {"cloze": {"folder": tmp_path}}})
    with pytest.raises(InputError, match=r"x.jsonl and x.txt hold the same subject"):
        run(asked, tmp_path / "out")


def test_where_no_row_can_be_asked_the_reason_is_told(small_model, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test/one_test.csv").write_text("Where;here;there;A\n" * 3)
    with pytest.raises(InputError, match=r"missing answer 3 \(3 not asked\), the first at test/one_test.csv:1"):
        run(settings(small_model, tmp_path), tmp_path / "out")
