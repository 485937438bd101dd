"""What the evaluation stage writes of one model on one benchmark into `results.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from headwater.errors import InputError
from headwater.evaluate.answers import Answer
from headwater.evaluate.benchmarks.definition import Benchmark, Rules
from headwater.evaluate.benchmarks.reading import Reading
from headwater.evaluate.bootstrap import RESAMPLES, SEED
from headwater.evaluate.compare import Asked
from headwater.evaluate.contaminated import Contamination, contaminated
from headwater.evaluate.published import Published
from headwater.evaluate.scores import above_chance, scores


def entry(benchmark: Benchmark, reading: Reading, answers: Sequence[Answer], *, rules: Rules = "official",
          shots: int | None = None, contamination: Contamination | None = None, resamples: int = RESAMPLES,
          seed: int = SEED) -> dict[str, Any]:
    """The figures of one model (docs/evaluate.md has every key).

    shots: those that were shown, the benchmark's own when not given. contamination: of this benchmark; without it
    there is no `contaminated`. Raises `InputError` where no question was answered.
    """
    if not answers:
        raise InputError("no question was answered", where=benchmark.name, fix="give a benchmark with questions")
    found = scores(answers, averaged=benchmark.averaged, groups=benchmark.groups, resamples=resamples, seed=seed)
    metric = metric_of(benchmark, answers)
    written = {"metric": metric, "averaged": benchmark.averaged, "more_is_better": benchmark.more_is_better,
               "chance": benchmark.chance,
               "above_chance": above_chance(found.whole.metrics[metric].value, benchmark.chance),
               "shots": benchmark.shots if shots is None else shots, "rules": rules,
               "prompts": prompts(answers), "faults": faults(reading), **found.as_json()}
    if contamination is not None:
        written["contaminated"] = contaminated(answers, contamination, averaged=benchmark.averaged,
                                               resamples=resamples, seed=seed)
    return written


def prompts(answers: Sequence[Answer]) -> dict[str, int]:
    """How many were shortened by whole solved examples, by how many of these, and how many lost their beginning."""
    return {"shortened": sum(one.left_out > 0 for one in answers),
            "examples_left_out": sum(one.left_out for one in answers), "cut": sum(one.cut for one in answers)}


def metric_of(benchmark: Benchmark, answers: Sequence[Answer]) -> str:
    """The published metric; by other rules, which may have none of that name, the first that the answers carry."""
    names = list(dict.fromkeys(name for answer in answers for name in answer.metrics))
    return benchmark.metric if benchmark.metric in names else names[0]


def faults(reading: Reading) -> dict[str, dict[str, int]]:
    """Rows of the files that are not as their format says, by kind: how many are asked all the same and how many left
    out."""
    kept = Counter(fault.kind for fault in reading.faults if fault.kept)
    lost = Counter(fault.kind for fault in reading.faults if not fault.kept)
    return {kind: {"asked": kept[kind], "left_out": lost[kind]} for kind in sorted({*kept, *lost})}


def asked(benchmark: Benchmark, answers: dict[str, Sequence[Answer]], known: dict[str, dict[str, Published]]) -> Asked:
    """What `compare` takes, of the answers by model and of what is published of each model by benchmark."""
    some = [one for those in answers.values() for one in those]
    return Asked(benchmark.name, metric_of(benchmark, some), answers, benchmark.averaged, benchmark.groups,
                 {model: figures[benchmark.name] for model, figures in known.items() if benchmark.name in figures},
                 benchmark.more_is_better)


def figures(task: str, language: str, written: dict[str, Any]) -> dict[str, float]:
    """TASK.LANGUAGE.METRIC of an entry, as the stage's figures are named."""
    return {f"{task}.{language}.{metric}": one["value"] for metric, one in written["metrics"].items()}
