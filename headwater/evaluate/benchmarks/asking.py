"""Tasks of lm-evaluation-harness as plain fields: a choice by the likelihood of its letter, or a text that is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headwater.evaluate.benchmarks.checking import LETTERS
from headwater.evaluate.benchmarks.definition import TaskConfig
from headwater.evaluate.benchmarks.reading import Row

Text = Callable[[Row], str]
Extract = Callable[[Row, str], str]
"""(row, what the model wrote) -> its answer, "" where there is none."""
Judge = Callable[[Row, str], Mapping[str, float | list[float]]]
"""(row, answer as extracted) -> metrics."""
CHOICE_TOKENS = 256
"""Longest written answer to a question with choices; more than the one letter, for models that explain themselves."""


def lettered(question: str, choices: Sequence[str]) -> str:
    """The question and its choices, a line each, as all three official scripts write them."""
    return question + "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True))


def metrics(*names: str) -> list[dict[str, Any]]:
    """Means over the questions, higher is better."""
    return [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names]


def _shown(description: str, delimiter: str) -> TaskConfig:
    """What both ways of asking share: examples in the order of their file, an empty line behind each."""
    return {"description": description, "target_delimiter": delimiter, "fewshot_delimiter": "\n\n",
            "fewshot_config": {"sampler": "first_n"}}


def choose(text: Text, answer: Callable[[Row], int], *, description: str, delimiter: str) -> TaskConfig:
    """The likeliest of the letters A to D behind the question. delimiter: between the question and a letter."""
    return {**_shown(description, delimiter), "output_type": "multiple_choice", "doc_to_text": text,
            "doc_to_choice": list(LETTERS), "doc_to_target": answer, "metric_list": metrics("acc")}


def write(text: Text, wanted: Text, extract: Extract, *, description: str = "", delimiter: str = " ",
          solved: Text | None = None, until: Sequence[str] = (), tokens: int, judge: Judge | None = None,
          metric: Sequence[str] = ("exact_match",)) -> TaskConfig:
    """A greedy text out of which an answer is read.

    solved: what a solved example shows as its answer, `wanted` when None. until: texts that end the answer. judge:
    the metrics; when None, 1 for an answer that equals `wanted`.
    """
    shots: TaskConfig = {} if solved is None else {"doc_to_target": solved}
    config = _shown(description, delimiter)
    return {**config, "fewshot_config": config["fewshot_config"] | shots,
            "output_type": "generate_until", "doc_to_text": text, "doc_to_target": wanted,
            "generation_kwargs": {"until": list(until), "do_sample": False, "temperature": 0.0,
                                  "max_gen_toks": tokens},
            "filter_list": [{"name": "official", "filter": [
                {"function": "custom", "filter_fn": _extracted(extract)}, {"function": "take_first"}]}],
            "process_results": _judged(judge or _equal(wanted)), "metric_list": metrics(*metric)}


def _equal(wanted: Text) -> Judge:
    def judge(row: Row, given: str) -> dict[str, float]:
        return {"exact_match": float(given != "" and given == wanted(row))}

    return judge


def _extracted(extract: Extract) -> Callable[[list[list[str]], list[Row]], list[list[str]]]:
    def filter_fn(answers: list[list[str]], rows: list[Row]) -> list[list[str]]:
        return [[extract(row, said) for said in several] for several, row in zip(answers, rows, strict=True)]

    return filter_fn


def _judged(judge: Judge) -> Callable[[Row, list[str]], dict[str, float | list[float]]]:
    def process_results(row: Row, given: list[str]) -> dict[str, float | list[float]]:
        return dict(judge(row, given[0]))

    return process_results
