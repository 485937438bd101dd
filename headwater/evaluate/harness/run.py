"""Asking a model the questions of one part of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lm_eval import evaluator

from headwater.errors import InputError
from headwater.evaluate.answers import Answer
from headwater.evaluate.benchmarks.definition import AnsweredBy, Benchmark, Rules
from headwater.evaluate.benchmarks.reading import WHERE, Part
from headwater.evaluate.harness.language_model import EngineLM
from headwater.evaluate.harness.tasks import LocalTask, quiet, task_of

NAMES = {"acc": "accuracy", "acc_norm": "accuracy_norm", "acc_bytes": "accuracy_bytes",
         "acc_mutual_info": "accuracy_mutual_info"}
"""The harness's names of metrics, and ours; others are the same."""
INVALID = "[invalid]"
"""What the harness puts where a text holds no answer."""


def prepared(benchmark: Benchmark, part: Part, rules: Rules, *, shots: int | None = None,
             answer: AnsweredBy | None = None, max_tokens: int | None = None) -> LocalTask:
    """The task of `ask`. Raises `InputError` for what this benchmark is not asked."""
    task = task_of(benchmark, part, rules, shots, answer=answer)
    if max_tokens is not None:
        if task.OUTPUT_TYPE != "generate_until":
            raise InputError(f"{benchmark.name} is not answered in writing here: max_tokens has no effect",
                             where=benchmark.name, fix="leave max_tokens out")
        task.config.generation_kwargs["max_gen_toks"] = max_tokens
    return task


def ask(model: EngineLM, benchmark: Benchmark, part: Part, rules: Rules, *, shots: int | None = None,
        chat: bool = False, answer: AnsweredBy | None = None, max_tokens: int | None = None) -> list[Answer]:
    """The model's answers, in the order of the questions.

    shots: solved examples before each question, as the rules have it when None. chat: through the model's chat
    template, the examples as earlier turns. answer: see `task_of`. max_tokens: of a written answer, as
    the rules have it when None. Raises `InputError`.
    """
    task = prepared(benchmark, part, rules, shots=shots, answer=answer, max_tokens=max_tokens)
    task.reader = model if rules == "official" else None
    with quiet():
        found = evaluator.evaluate(model, {"tasks": {part.subject: task}, "groups": {}}, bootstrap_iters=0,
                                   apply_chat_template=chat, fewshot_as_multiturn=chat, log_samples=True)
    answers = answers_of(task, benchmark, part.subject, found["samples"][part.subject])
    return [replace(one, left_out=task.left_out.get(one.where, 0), cut=one.prompt_sha256 in model.cut)
            for one in answers]


def answers_of(task: LocalTask, benchmark: Benchmark, subject: str, samples: Sequence[Mapping[str, Any]]
               ) -> list[Answer]:
    """The harness's samples as answers. Of tasks that read an answer in several ways each way is a metric of its own,
    METRIC/WAY, and the first is what was `given`."""
    several = len({sample["filter"] for sample in samples}) > 1
    by_question: dict[int, list[Mapping[str, Any]]] = {}
    for sample in samples:
        by_question.setdefault(sample["doc_id"], []).append(sample)
    return [_answer(task, benchmark, subject, ways, several) for _, ways in sorted(by_question.items())]


def _answer(task: LocalTask, benchmark: Benchmark, subject: str, ways: list[Mapping[str, Any]], several: bool
            ) -> Answer:
    metrics = {NAMES.get(name, name) + (f"/{way['filter']}" if several else ""): _number(way[name])
               for way in ways for name in way["metrics"]}
    first = ways[0]
    row, chosen = first["doc"], task.OUTPUT_TYPE == "multiple_choice"
    said, given, logprobs = None, "", None
    wanted = first["target"]
    if chosen:
        choices = task.doc_to_choice(row)
        logprobs = tuple(float(answer[0]) for answer in first["filtered_resps"])[: len(choices)]
        given = choices[max(range(len(choices)), key=logprobs.__getitem__)]
        wanted = choices[wanted] if isinstance(wanted, int) else wanted
    elif task.OUTPUT_TYPE == "generate_until":
        said, found = first["resps"][0][0], first["filtered_resps"][0]
        given = "" if found == INVALID else found if isinstance(found, str) else said
    return Answer(subject, row[WHERE], benchmark.question(row), given, str(wanted), metrics, said, logprobs,
                  prompt_sha256=first["prompt_hash"])


def _number(value: Any) -> float | list[float]:
    """A metric of one question, or of each of several instructions in it."""
    return [float(one) for one in value] if isinstance(value, (list, tuple)) else float(value)
