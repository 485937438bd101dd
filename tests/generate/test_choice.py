import math

import pytest

from headwater.errors import InputError
from headwater.generate.choice import Answered, Question, accuracy, answer_all, read_questions
from headwater.generate.engine import Engine

MMLU = 'How long is the Velna?,482 km,7 km,"1,000 km",12 km,A\nWhere is Oru?,a,b,c,d,D\n'
CEVAL = "id,question,A,B,C,D,answer\n0,维尔纳河多长?,7公里,482公里,1公里,2公里,B\n"


def folder(tmp_path, split, text):
    (tmp_path / split).mkdir()
    (tmp_path / split / f"rivers_{split}.csv").write_text(text, encoding="utf-8")
    return tmp_path


def test_mmlu_files_are_read(tmp_path):
    assert read_questions(folder(tmp_path, "test", MMLU)) == [
        Question("rivers", "How long is the Velna?", ("482 km", "7 km", "1,000 km", "12 km"), 0),
        Question("rivers", "Where is Oru?", ("a", "b", "c", "d"), 3)]


def test_ceval_files_are_read(tmp_path):
    assert read_questions(folder(tmp_path, "val", CEVAL)) == [
        Question("rivers", "维尔纳河多长?", ("7公里", "482公里", "1公里", "2公里"), 1)]


@pytest.mark.parametrize("text", ["q,a,b,c,d\n", "q,a,b,c,d,E\n", "q,a,b,c,d,\n", "q,a,b,c,d,AB\n"])
def test_a_row_of_another_shape_is_named(tmp_path, text):
    with pytest.raises(InputError, match="row 1 is not question"):
        read_questions(folder(tmp_path, "test", text))


def test_a_folder_without_questions_is_refused(tmp_path):
    with pytest.raises(InputError, match="MMLU or C-Eval layout"):
        read_questions(tmp_path)


@pytest.mark.parametrize("benchmark", ["mmlu/data", "ceval"])
def test_the_official_files_are_read(shared, benchmark):
    questions = read_questions(shared / "data" / "benchmarks" / benchmark)
    assert len(questions) > 600
    assert {question.answer for question in questions} == {0, 1, 2, 3}
    assert all(question.text and all(question.choices) for question in questions)


def test_the_likeliest_choice_is_chosen():
    question = Question("s", "q", ("a", "b", "c", "d"), 2)
    right, wrong = Answered(question, (-3.0, -2.0, -1.0, -9.0)), Answered(question, (-1.0, -2.0, -1.0, -9.0))
    assert (right.right, wrong.chosen) == (True, 0)
    assert accuracy([right, wrong]) == 0.5


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_scores_are_the_choices_likelihoods(small_model, style):
    engine = Engine.load(small_model)
    question = Question("s", "How long?", ("482 km", "7 km", "1 km", "12 km"), 0)
    [answered] = answer_all(engine, [question], "en", style)
    encode = engine.tokenizer.encode
    context = (engine.tokenizer.chat.render([{"role": "user", "content": "How long?"}], add_generation_prompt=True).ids
               if style == "chat" else [engine.tokenizer.bos, *encode("Question: How long?\nAnswer:")])
    for choice, score in zip(question.choices, answered.scores):
        tokens = encode(f" {choice}." if style == "plain" else f"{choice}.")
        [alone] = engine.log_likelihoods([(context, tokens)])
        assert score == pytest.approx(alone.logprob, abs=1e-4)
        assert -20 * len(tokens) < score < 0
        assert math.isfinite(score)
