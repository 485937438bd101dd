"""The harness's own model of transformers, asked the same: every choice and every text must be the same."""

import json
import shutil
from dataclasses import replace

import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from lm_eval import evaluator
from lm_eval.models.huggingface import HFLM

from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.harness.language_model import EngineLM
from headwater.evaluate.harness.run import answers_of, ask
from headwater.evaluate.harness.tasks import quiet, task_of
from headwater.generate.engine import Engine

CONTEXT = 6144
QUESTIONS = {"mmlu": 4, "cmmlu": 6, "gsm8k": 3, "bbh": 2}
TOKENS = 160
"""Of written answers; the rules have more."""


@pytest.fixture(scope="module")
def folder(shared, tmp_path_factory):
    """A real checkpoint, told that it reads longer texts than it was trained on, as these prompts need."""
    folder = tmp_path_factory.mktemp("stories") / "model"
    shutil.copytree(shared / "checkpoints/stories260K-hf", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return folder


@pytest.fixture(scope="module")
def ours(folder):
    return EngineLM(Engine.load(folder, max_batch=4))


@pytest.fixture(scope="module")
def theirs(folder):
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4)


def parts(shared, name, count):
    found = [part for part in BENCHMARKS[name].read(shared / "data/benchmarks" / name).parts if part.shots]
    return [replace(part, questions=part.questions[: QUESTIONS[name]]) for part in found[:count]]


def asked_of_theirs(theirs, name, part, rules):
    task = task_of(BENCHMARKS[name], part, rules, None)
    if task.OUTPUT_TYPE == "generate_until":
        task.config.generation_kwargs["max_gen_toks"] = TOKENS
    with quiet():
        found = evaluator.evaluate(theirs, {"tasks": {"it": task}, "groups": {}}, bootstrap_iters=0)
    return answers_of(task, BENCHMARKS[name], part.subject, found["samples"]["it"])


@pytest.mark.parametrize("rules", ["harness", "official"])
@pytest.mark.parametrize("name", ["mmlu", "cmmlu"])
def test_choices_are_the_same_question_by_question(shared, ours, theirs, name, rules):
    for part in parts(shared, name, 2):
        for one, other in zip(ask(ours, BENCHMARKS[name], part, rules), asked_of_theirs(theirs, name, part, rules),
                              strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-3)
            assert replace(one, logprobs=None) == replace(other, logprobs=None)


@pytest.mark.parametrize("name", ["gsm8k", "bbh"])
def test_written_answers_are_the_same_letter_by_letter(shared, ours, theirs, name):
    for part in parts(shared, name, 1):
        found = ask(ours, BENCHMARKS[name], part, "harness", max_tokens=TOKENS)
        assert found == asked_of_theirs(theirs, name, part, "harness")


def test_chinese_letters_follow_their_question_without_a_space(shared, ours):
    """The first documented difference: the harness scores " A" behind the colon, the authors "A"."""
    [part] = parts(shared, "cmmlu", 1)
    official, shipped = (task_of(BENCHMARKS["cmmlu"], part, rules, None) for rules in ("official", "harness"))
    for task, letter in ((official, "A"), (shipped, " A")):
        with quiet():
            task.build_all_requests()
        assert task.instances[0].args[1] == letter
    assert official.instances[0].args[0].endswith("\n答案是：")
    assert shipped.instances[0].args[0].endswith("\n答案：")
