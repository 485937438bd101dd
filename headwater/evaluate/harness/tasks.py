"""A part of a benchmark as a task of lm-evaluation-harness, over rows from local files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import lm_eval.api.task
import lm_eval.tasks
from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from headwater.errors import InputError
from headwater.evaluate.benchmarks.asking import continued
from headwater.evaluate.benchmarks.definition import AnsweredBy, Benchmark, Dropped, Rules, TaskConfig
from headwater.evaluate.benchmarks.fitting import shots_that_fit
from headwater.evaluate.benchmarks.reading import WHERE, Part, Row
from headwater.evaluate.harness.language_model import ANSWER_TOKENS

SEED = 1234
"""Of the harness's own choice of solved examples, where a task draws them; its default."""
SHIPPED = {"mmlu": "mmlu/default", "cmmlu": "cmmlu", "ceval": "ceval", "gsm8k": "gsm8k", "bbh": "bbh/cot_fewshot",
           "ifeval": "ifeval"}
"""Benchmark -> the folder of the harness's own definitions."""
_ONLINE = ("dataset_path", "dataset_name", "dataset_kwargs")
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


class Reader(Protocol):
    """What a task asks of the model that will read its prompts."""

    @property
    def most(self) -> int:
        """Tokens that it reads, an answer included."""
        ...

    def length(self, prompt: str) -> int:
        """In tokens."""
        ...


class LocalTask(ConfigurableTask):
    """A task of the harness that leaves out whole solved examples where a prompt would not fit, as official scripts do.

    The harness cuts the prompt's beginning off, and with it the instruction.
    """

    reader: Reader | None = None
    """None: prompts are left as they are."""
    leaves_out: Dropped = "last"
    left_out: dict[str, int]
    """Solved examples so far, by the place of the question that they are not shown before."""

    @property
    def answer_tokens(self) -> int:
        """Room for an answer."""
        written = self.OUTPUT_TYPE == "generate_until"
        return int((self.config.generation_kwargs or {}).get("max_gen_toks", ANSWER_TOKENS)) if written else 1

    def fewshot_context(self, doc: Row, num_fewshot: int, **how: Any) -> str:
        """The prompt of a question."""
        prompt = super().fewshot_context(doc, num_fewshot, **how)
        if self.reader is None or not num_fewshot:
            return prompt
        room = self.reader.most - self.answer_tokens
        if self.reader.length(prompt) <= room:
            return prompt
        every: list[Row] = self.sampler.df[:num_fewshot]

        def shown(examples: list[Row]) -> str:
            with _replaced(self.sampler, examples):
                return super(LocalTask, self).fewshot_context(doc, len(examples), **how)

        bare = self.reader.length(shown([]))
        kept = shots_that_fit([self.reader.length(shown([one])) - bare for one in every], room - bare, self.leaves_out)
        self.left_out[doc[WHERE]] = num_fewshot - len(kept)
        return shown([every[place] for place in kept])


@contextmanager
def _replaced(sampler: ContextSampler, examples: list[Row]) -> Iterator[None]:
    every, sampler.df = sampler.df, examples
    try:
        yield
    finally:
        sampler.df = every


def task_of(benchmark: Benchmark, part: Part, rules: Rules, shots: int | None, *,
            answer: AnsweredBy | None = None) -> LocalTask:
    """shots: solved examples before each question, as the rules have it when None; fewer where the files hold fewer.
    answer: how, as the rules have it when None. Raises `InputError` where there is no such task."""
    config = _official(benchmark, part, answer) if rules == "official" else _shipped(benchmark, part.subject)
    if answer is not None and answer not in answers_by(benchmark, rules):
        known = answers_by(benchmark, rules)
        raise InputError(f"{benchmark.name} is not answered by {answer} by the {rules} rules", where=benchmark.name,
                         fix=f"leave answer out, or give {' or '.join(known)}" if known else "leave answer out")
    number = _number(config, benchmark, part, rules, shots)
    with quiet():
        task = LocalTask(config={**config, "task": f"{benchmark.name}_{part.subject}",
                                 "custom_dataset": lambda **_: _splits(part), "num_fewshot": number,
                                 "metadata": None, **_local(config, number)})
    task.set_fewshot_seed(SEED)
    task.leaves_out, task.left_out = benchmark.dropped, {}
    return task


def _official(benchmark: Benchmark, part: Part, answer: AnsweredBy | None) -> TaskConfig:
    if answer == "text" and benchmark.choices is not None:
        return continued(benchmark.choices, language=benchmark.language)
    return (benchmark.chat if answer == "written" and benchmark.chat is not None else benchmark.official)(part)


def answers_by(benchmark: Benchmark, rules: Rules) -> tuple[AnsweredBy, ...]:
    """Between which ways there is a choice."""
    if rules == "harness":
        return ()
    written: tuple[AnsweredBy, ...] = ("written",) if benchmark.chat is not None else ()
    return ("letter", "text", *written) if benchmark.choices is not None else written


def _number(config: TaskConfig, benchmark: Benchmark, part: Part, rules: Rules, shots: int | None) -> int:
    asked = shots if shots is not None else config.get("num_fewshot")
    number = benchmark.shots if asked is None else asked
    own = (config.get("fewshot_config") or {}).get("samples")
    return min(number, len(part.shots) if own is None else len(own))


def _local(config: TaskConfig, shots: int) -> dict[str, Any]:
    """Splits under names of our own, and nothing that would be fetched."""
    own = (config.get("fewshot_config") or {}).get("samples") is not None
    away: dict[str, Any] = dict.fromkeys((*_ONLINE, *_SPLITS))
    return {**away, "test_split": "test", "fewshot_split": "shots" if shots and not own else None}


def _shipped(benchmark: Benchmark, subject: str) -> TaskConfig:
    """The harness's own definition. Raises `InputError`."""
    name = benchmark.harness(subject)
    path = _shipped_tasks(SHIPPED[benchmark.name]).get(name) if benchmark.name in SHIPPED else None
    if path is None:
        raise InputError(f"lm-evaluation-harness has no task '{name}' that runs on local files", where="rules",
                         fix="ask by the official rules")
    return load_yaml(path)


@cache
def _shipped_tasks(folder: str) -> dict[str, Path]:
    root = Path(next(iter(lm_eval.tasks.__path__))) / folder
    found = {}
    for path in sorted(root.glob("*.yaml")):
        name = load_yaml(path, resolve_func=False, recursive=False).get("task")
        if isinstance(name, str):
            found[name] = path
    return found


class _Rows(list[Row]):
    """What the harness takes for a dataset."""

    @property
    def features(self) -> dict[str, None]:
        return dict.fromkeys(self[0]) if self else {}


def _splits(part: Part) -> dict[str, _Rows]:
    return {"test": _Rows(part.questions), "shots": _Rows(part.shots)}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the harness's own progress bars, which would cross ours, and its remarks on local data."""
    bars, level = lm_eval.api.task.tqdm, lm_eval.api.task.eval_logger.level
    lm_eval.api.task.tqdm = _unshown
    lm_eval.api.task.eval_logger.setLevel("ERROR")
    try:
        yield
    finally:
        lm_eval.api.task.tqdm = bars
        lm_eval.api.task.eval_logger.setLevel(level)


def _unshown(rows: Sequence[Any], **_: Any) -> Sequence[Any]:
    return rows
