"""The official benchmarks on the report's page: scores with intervals, marks, groups, faults, leaked questions and
some wrong answers. Read from what the evaluation wrote; a part that it did not write is empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from headwater.artifacts import read_json
from headwater.evaluate.answers import Answer, read_answers
from headwater.plots import LANGUAGES
from headwater.recipe.summary import stage_folder

TITLES = {"mmlu": "MMLU", "ceval": "C-Eval", "cmmlu": "CMMLU", "gsm8k": "GSM8K", "bbh": "BBH",
          "humaneval": "HumanEval", "ifeval": "IFEval", "truthfulqa": "TruthfulQA", "agieval": "AGIEval"}
SHOTS = {0: "without examples", 1: "1 example"}
WRONG = 3
"""Wrong answers shown of a model and benchmark."""
LONGEST = 500
"""Characters shown of a question, and of what a model wrote."""
WHOLE = "all questions"
Entries = dict[tuple[str, str], dict[str, dict[str, Any]]]
"""(task, language) -> model -> what `results.json` says."""


def official(run: Path) -> dict[str, Any]:
    """Of `evaluate/results.json`, `comparison.json` and `answers/`."""
    folder = stage_folder(run, "evaluate")
    found = entries(folder)
    if not found:
        return {}
    models = list(dict.fromkeys(model for ones in found.values() for model in ones))
    path = folder / "comparison.json"
    comparison = read_json(path) if path.exists() else {"rows": []}
    marks = {row["benchmark"]: row for row in comparison["rows"] if row["group"] is None}
    return {"models": models, "reference": comparison.get("reference"),
            "rows": [_row(task, language, ones, models, marks.get(task)) for (task, language), ones in found.items()],
            "left_out": {_title(task): row["left_out"] for task, row in marks.items() if row["left_out"]},
            "scores": {_title(task): {model: _main(one) for model, one in ones.items()}
                       for (task, _), ones in found.items()},
            "chances": {_title(task): next(iter(ones.values()))["chance"] for (task, _), ones in found.items()},
            "parts": {_title(task): parts for (task, _), ones in found.items() if (parts := _parts(ones))},
            "short": {_title(task): told for (task, _), ones in found.items() if (told := _too_long(ones))},
            "faults": {_title(task): told for (task, _), ones in found.items() if (told := _faults(ones))},
            "contaminated": [row for (task, _), ones in found.items() for row in _contaminated(task, ones)],
            "wrong": list(_wrong(folder, found))}


def entries(folder: Path) -> Entries:
    """Those of official benchmarks: they have their metrics with intervals."""
    path, found = folder / "results.json", dict[tuple[str, str], dict[str, dict[str, Any]]]()
    for model, tasks in (read_json(path) if path.exists() else {}).items():
        for task, languages in tasks.items():
            for language, one in languages.items():
                if isinstance(one, dict) and "metrics" in one:
                    found.setdefault((task, language), {})[model] = one
    return found


def without(summary: Mapping[str, Any], found: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The summary less the figures of official benchmarks, which have a table of their own."""
    tasks = {task for task, _ in entries(stage_folder(run, "evaluate"))} if found else set()
    return {"stages": {stage: {**values, "figures": {name: value for name, value in values["figures"].items()
                                                     if name.partition(".")[0] not in tasks}}
                       for stage, values in summary["stages"].items()}}


def _title(task: str) -> str:
    return TITLES.get(task, task.replace("_", " "))


def _main(one: Mapping[str, Any]) -> dict[str, float]:
    """The figure in the published metric."""
    return dict(one["metrics"][one["metric"]])


def _row(task: str, language: str, ones: Mapping[str, Any], models: list[str], marks: Mapping[str, Any] | None
         ) -> dict[str, Any]:
    cells = marks["models"] if marks else {}
    said = list(dict.fromkeys(_asked(one) for one in ones.values()))
    return {"title": _title(task), "language": LANGUAGES.get(language, language), "asked": "; ".join(said),
            "questions": marks["questions"] if marks else max(one["questions"] for one in ones.values()),
            "cells": [_cell(cells.get(model) or _main(ones[model])) if model in ones else {} for model in models]}


def _asked(one: Mapping[str, Any]) -> str:
    shots = SHOTS.get(one["shots"], f"{one['shots']} examples")
    rules = "" if one["rules"] == "official" else f", {one['rules']} rules"
    metric = one["metric"].replace("_", " ") + ("" if one["more_is_better"] else " (less is better)")
    return f"{metric}, {shots}{rules}"


def _cell(found: Mapping[str, Any]) -> dict[str, Any]:
    against, printed = found.get("against", {}), found.get("published")
    mark = ("↑" if against["difference"]["value"] > 0 else "↓") if against.get("significant") else ""
    return {"value": f"{100 * found['value']:.1f} %", "mark": mark, "best": found.get("best", False),
            "interval": f"{100 * found['low']:.1f} to {100 * found['high']:.1f}",
            "published": f"{printed['model']} published: {100 * printed['value']:.1f} % ({printed['grade']})"
            if printed else ""}


def _parts(ones: Mapping[str, Any]) -> dict[str, Any]:
    """Of a benchmark with several subjects: figures by group for the plot, and rows of a table of all parts."""
    subjects = list(dict.fromkeys(name for one in ones.values() for name in one["subjects"]))
    groups = list(dict.fromkeys(name for one in ones.values() for name in one["groups"]))
    if len(subjects) < 2:
        return {}
    shown: dict[str, dict[str, dict[str, float]]] = {}
    for group in groups:
        shown[group] = {model: _of(one["groups"][group], one) for model, one in ones.items() if group in one["groups"]}
    return {"models": list(ones), "groups": shown, "chance": next(iter(ones.values()))["chance"],
            "rows": [*(_part_row(name, "groups", ones) for name in groups),
                     *(_part_row(name, "subjects", ones) for name in subjects)]}


def _of(part: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, float]:
    return dict(part["metrics"].get(one["metric"], {}))


def _part_row(name: str, kind: str, ones: Mapping[str, Any]) -> dict[str, Any]:
    held = [one[kind].get(name) for one in ones.values()]
    figures = [_of(part, one) if part else {} for part, one in zip(held, ones.values(), strict=True)]
    return {"name": name.replace("_", " "), "group": kind == "groups",
            "questions": max(part["questions"] for part in held if part),
            "cells": [f"{100 * one['value']:.1f} % ({100 * one['low']:.0f} to {100 * one['high']:.0f})" if one else ""
                      for one in figures]}


def _too_long(ones: Mapping[str, Any]) -> str:
    """Of prompts that did not fit, by model."""
    told = []
    for model, one in ones.items():
        found = one["prompts"]
        ways = [f"{found['shortened']:,} with {found['examples_left_out']:,} solved examples less"
                if found["shortened"] else "", f"{found['cut']:,} without their beginning" if found["cut"] else ""]
        told += [f"{model}: {', '.join(filter(None, ways))}"] if any(ways) else []
    return "; ".join(told)


def _faults(ones: Mapping[str, Any]) -> str:
    """The files are the same for all models."""
    told = []
    for kind, count in next(iter(ones.values()))["faults"].items():
        ways = [(count["left_out"], "cannot be asked"), (count["asked"], "can be asked")]
        told.append(f"{kind}: " + ", ".join(f"{number:,} {way}" for number, way in ways if number))
    return "; ".join(told)


def _contaminated(task: str, ones: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for model, one in ones.items():
        if "contaminated" in one:
            found = one["contaminated"]
            gap = found["difference"].get(one["metric"])
            yield {"title": _title(task), "model": model, "action": found["action"],
                   "parts": [(found[part]["questions"], _share(found[part]["metrics"].get(one["metric"])))
                             for part in ("all", "clean", "contaminated")],
                   "difference": f"{100 * gap['value']:+.1f} ({100 * gap['low']:+.1f} to {100 * gap['high']:+.1f})"
                   if gap else ""}


def _share(figure: Mapping[str, float] | None) -> str:
    return f"{100 * figure['value']:.1f} %" if figure else ""


def _wrong(folder: Path, found: Entries) -> Iterator[dict[str, Any]]:
    """Some of every benchmark, of the last model that was asked it, evenly spread over its wrong answers."""
    for (task, _), ones in found.items():
        model, one = list(ones.items())[-1]
        files = sorted((folder / "answers" / model / task).glob("*.jsonl"))
        wrong = [answer for file in files for answer in read_answers(file)
                 if answer.metrics.get(one["metric"]) == (0 if one["more_is_better"] else 1)]
        step = max(1, len(wrong) // WRONG)
        if wrong:
            yield {"title": _title(task), "model": model, "number": len(wrong),
                   "answers": [_shown(answer) for answer in islice(wrong, 0, step * WRONG, step)]}


def _shown(answer: Answer) -> dict[str, str]:
    return {"where": answer.where, "question": _short(answer.question), "said": _short(answer.said or ""),
            "given": _short(answer.given) or "nothing found", "wanted": _short(answer.wanted)}


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= LONGEST else text[:LONGEST].rstrip() + " …"
