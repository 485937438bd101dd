"""What the report shows, read from a run's folder; a part that the run does not have is empty."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from headwater.artifacts import read_json, read_jsonl
from headwater.plots import LANGUAGES
from headwater.recipe.manifest import Manifest
from headwater.recipe.summary import stage_folder

METRICS = {"accuracy": "all questions", "rephrased_accuracy": "unseen phrasings"}
CALLS = {"right_tool": "the right tool called", "right_call": "with the right arguments",
         "no_call": "none called where none is needed", "dialogues": "whole dialogues right"}
SPOKEN = {"spoken_accuracy": "said without choices, all questions",
          "rephrased_spoken_accuracy": "said without choices, unseen phrasings",
          "same_language": "answered in the question's language"}
WHEN = {"before": "as it was", "untrained": "its positions stretched", "after": "and trained"}
"""Of the model that is extended."""
SAFETY = {"unsafe_rate": "unsafe answers to risky requests", "refusal_rate": "risky requests refused",
          "neither_rate": "neither refused nor obeyed",
          "over_refusal_rate": "harmless requests refused", "right_rate": "right answers",
          "unfinished_rate": "empty or cut off"}
RECALL = {"before": "before", "system": "before, as the system message", "every": "before, in every turn",
          "after": "after"}
"""Of ghost attention: when, and where the instruction stood if not in the first turn."""
ITERATIONS = "iterations.jsonl"
"""Of a stage that learns from its own answers: its loss says nothing."""
MEMORY = ("predicted_memory_bytes", "measured_memory_bytes")


def funnel(run: Path) -> dict[str, Any]:
    """`corpus/funnel.json`, and as `shown` the languages to list: English, Chinese and every one of which something
    was kept."""
    values = _read(stage_folder(run, "corpus") / "funnel.json")
    if not values.get("steps"):
        return {}
    kept = sorted({code for split in values["kept"].values() for code in split["languages"]} - set(LANGUAGES))
    return values | {"shown": {**LANGUAGES, **{code: code for code in kept}}}


def tokenizer(run: Path) -> dict[str, Any]:
    """`tokenizer/compression.json`."""
    return _read(stage_folder(run, "tokenizer") / "compression.json")


def curves(run: Path, stages: Mapping[str, Manifest]) -> dict[str, list[dict[str, float]]]:
    """The logged steps of every stage that trains on data."""
    files = {name: stage_folder(run, name) / "metrics.jsonl" for name in stages
             if not (stage_folder(run, name) / ITERATIONS).exists()}
    rows = {name: list(read_jsonl(path)) for name, path in files.items() if path.exists()}
    return {name: [row for row in ones if "loss" in row and "tokens" in row] for name, ones in rows.items() if ones}


def followed(run: Path, stages: Mapping[str, Manifest]) -> dict[str, list[dict[str, Any]]]:
    """Of every stage with benchmarks beside its training, a row for each snapshot by its tokens: those of the measures
    that were asked for last."""
    files = {name: stage_folder(run, name) / "benchmarks.jsonl" for name in stages}
    rows = {name: list(read_jsonl(path)) for name, path in files.items() if path.exists()}
    last = {name: [row for row in ones if row["asked"] == ones[-1]["asked"]] for name, ones in rows.items() if ones}
    return {name: sorted(ones, key=lambda row: float(row["tokens"])) for name, ones in last.items()}


def longer(run: Path) -> dict[str, Any]:
    """`extend/extend.json` as `lengths` and, of the model before and after, perplexity and needles found at each."""
    values = _read(stage_folder(run, "extend") / "extend.json")
    if not values:
        return {}
    rows = [{"name": WHEN[name],
             "perplexity": [math.exp(min(one["mean"], 700.0)) for one in measured["loss"].values()],
             "found": [mean(share for task in measured["found"] for share in task["right"][str(length)])
                       for length in values["lengths"] if measured["found"]]}
            for name, measured in values["measured"].items()]
    return {"lengths": values["lengths"], "last": values["settings"]["last"], "rows": rows}


def tuning(run: Path, stages: Mapping[str, Manifest]) -> dict[str, Any]:
    """Of every stage that tuned, how and what it took, and `finetune.json`: each measure before and after."""
    rows: list[dict[str, Any]] = []
    for name, manifest in stages.items():
        found, settings = _read(stage_folder(run, name) / "finetune.json"), manifest.settings
        if not any(found.values()):
            continue
        how = str(settings["method"]) + (f" on {settings['base']}" if settings.get("base") else "")
        how += ", with replay" if settings["replay"]["share"] else ""
        how += ", near the base" if settings["near_base"] else ""
        figures = manifest.figures
        rows.append({"name": name, "how": how, "trained": figures.get("trained_parameters"),
                     "seconds": duration(manifest.seconds), "memory": size(figures.get(MEMORY[1])),
                     "cells": {key: (found["before"].get(key), found["after"].get(key)) for key in found["after"]}})
    measures = {key: _measure(key) for row in rows for key in row["cells"]}
    return {"rows": rows, "measures": measures} if rows else {}


def _measure(key: str) -> tuple[str, str]:
    """What stands above a column of figures `TASK.LANGUAGE.METRIC`, and how they are written."""
    task, language, metric = key.split(".", 2)
    task = {"mmlu": "MMLU", "ceval": "C-Eval", "cmmlu": "CMMLU"}.get(task, task.replace("_", " "))
    title = {"loss": "loss of unseen dialogues", "bits_per_byte": "bits per byte"}.get(metric, task)
    return f"{title}, {LANGUAGES.get(language, language)}", "{:.1%}" if metric == "accuracy" else "{:.3f}"


def best_of(run: Path, stages: Mapping[str, Manifest]) -> dict[str, dict[str, Any]]:
    """`rejection.json` of every stage that sampled, and as `cells` the rewards of unseen prompts before and after."""
    found = {name: _read(stage_folder(run, name) / "rejection.json") for name in stages}
    return {name: {**values, "cells": {key.removeprefix("reward.").replace("_", " "): (values["before"].get(key), value)
                                       for key, value in values.get("after", {}).items()}}
            for name, values in found.items() if values}


def pruned(run: Path, stages: Mapping[str, Manifest]) -> dict[str, dict[str, Any]]:
    """`prune.json` of every stage that took blocks out, as `gone` their numbers, and a row for each model."""
    found = {name: _read(stage_folder(run, name) / "prune.json") for name in stages}
    told = {}
    for name, values in found.items():
        if values:
            gone = [one["layer"] for one in values["removed"]]
            titles = {"before": f"all {len(values['blocks'])} blocks", "after": f"without {len(gone)} of them",
                      "healed": "and healed"}
            told[name] = {**values, "gone": gone, "rows": {
                titles[when]: {**cost, "quality": _quality(cost)} for when, cost in values["costs"].items()}}
    return told


def _quality(cost: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """What was measured of a model, in words."""
    bits = {f"bits per byte, {LANGUAGES.get(language, language)}": f"{value:.4f}"
            for language, value in cost["bits_per_byte"].items()}
    right = {name.rpartition("."): f"{value:.1%}" for name, value in cost["accuracy"].items()}
    return bits | {f"{task.replace('_', ' ')}, {LANGUAGES.get(language, language)}": value
                   for (task, _, language), value in right.items()}


def packed(run: Path, stages: Mapping[str, Manifest]) -> dict[str, Any]:
    """`quantize.json` of every stage that packed weights: (title, cells) of a table of each model before and after."""
    found = {name: values for name in stages if (values := _read(stage_folder(run, name) / "quantize.json"))}
    heads = list(dict.fromkeys(head for values in found.values() for head in _quality(values["costs"]["before"])))
    rows: list[tuple[str, list[str]]] = []
    for name, values in found.items():
        for when, cost in values["costs"].items():
            title, said = "as it was" if when == "before" else f"{name}: {values['how']}", _quality(cost)
            rows.append((title, [*(said.get(head, "") for head in heads), size(cost["bytes"]), size(cost["memory"]),
                                 f"{cost['tokens_per_second']:,.0f}"]))
    return {"heads": [*heads, "weights", "with a full context", "tokens/s"], "rows": rows} if rows else {}


def safety(run: Path) -> dict[str, Any]:
    """`safety/safety.json`: the measures, and rows of (model, prompts, language, a cell each), of all and by type
    of attack."""
    values = _read(stage_folder(run, "safety") / "safety.json")
    rows: list[tuple[str, str, str, list[str]]] = []
    for model, files in values.items():
        for prompts, languages in files.items():
            for language, measured in languages.items():
                parts = {"": measured["all"], **measured["attacks"]}
                rows += [(model, " ".join((prompts, part.replace("_", " "))).strip(), LANGUAGES.get(language, language),
                          [_share(own.get(name)) for name in SAFETY]) for part, own in parts.items()]
    return {"measures": list(SAFETY.values()), "rows": rows} if rows else {}


def _share(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['rate']:.1%} ({found['low']:.0%} to {found['high']:.0%})"


def rewarded(run: Path, stages: Mapping[str, Manifest]) -> dict[str, dict[str, Any]]:
    """Of every stage of PPO its iterations, and `ppo.json`: rewards of validation prompts before and after."""
    found = {}
    for name in stages:
        path = stage_folder(run, name) / ITERATIONS
        if path.exists() and (rows := list(read_jsonl(path))):
            asked = _read(stage_folder(run, name) / "ppo.json")
            found[name] = {"rows": rows, "parts": [part for part in rows[-1]["reward"] if part != "total"],
                           "cells": {key.removeprefix("reward."): (asked["before"].get(key), value)
                                     for key, value in asked.get("after", {}).items()}}
    return found


def rewards(run: Path, stages: Mapping[str, Manifest]) -> dict[str, dict[str, Any]]:
    """`reward.json` of every reward model that was judged by unseen pairs."""
    return _judged(run, stages, "reward.json")


def preferred(run: Path, stages: Mapping[str, Manifest]) -> dict[str, dict[str, Any]]:
    """`dpo.json` of every stage of DPO that was judged by unseen pairs."""
    return _judged(run, stages, "dpo.json")


def _judged(run: Path, stages: Mapping[str, Manifest], file: str) -> dict[str, dict[str, Any]]:
    found = {name: _read(stage_folder(run, name) / file) for name in stages}
    return {name: values for name, values in found.items() if values.get("accuracy")}


def samples(run: Path) -> list[dict[str, Any]]:
    """Conversations by what the user first said, so that the models' answers stand together."""
    path = stage_folder(run, "evaluate") / "samples.json"
    found = list(read_json(path)) if path.exists() else []
    openings = [sample["messages"][0]["content"] for sample in found]
    return [sample for opening in dict.fromkeys(openings)
            for sample in found if sample["messages"][0]["content"] == opening]


def held(run: Path, stages: Mapping[str, Manifest]) -> dict[str, dict[str, Any]]:
    """`ghost.json` of every stage of ghost attention: recall by turn of every line, and as `cells` by language and kind
    that of the last turn."""
    found = {name: _read(stage_folder(run, name) / "ghost.json") for name in stages}
    return {name: {"facts": values, "lines": {RECALL[key]: line["all"] for key, line in values["recall"].items()},
                   "cells": _last_turn(values["recall"])}
            for name, values in found.items() if values}


def _last_turn(lines: Mapping[str, Any]) -> dict[str, list[str]]:
    parts = {(part, name): None for line in lines.values() for part in ("languages", "kinds") for name in line[part]}
    return {LANGUAGES.get(name, name): [_share(line[part][name][-1]) if line[part].get(name) else ""
                                        for line in lines.values()] for part, name in parts}


def _read(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.exists() else {}


def scores(summary: Mapping[str, Any], metrics: Mapping[str, str] = METRICS) -> dict[str, dict[str, dict[str, float]]]:
    """Shares of right answers by task, model and language."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for model, task, language, metric, value in _benchmark_figures(summary):
        if metric in metrics:
            title = f"{task.replace('_', ' ')}, {metrics[metric]}"
            found.setdefault(title, {}).setdefault(model, {})[language] = value
    return found


def bits_per_byte(summary: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Bits per byte of held-out text by model and language."""
    found: dict[str, dict[str, float]] = {}
    for model, task, language, metric, value in _benchmark_figures(summary):
        if (task, metric) == ("text", "bits_per_byte"):
            found.setdefault(model, {})[language] = value
    return found


def _benchmark_figures(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, float]]:
    for stage, values in summary["stages"].items():
        if stage == "evaluate":
            continue
        for name, value in values["figures"].items():
            task, _, rest = name.partition(".")
            language, _, metric = rest.partition(".")
            if language in LANGUAGES and metric and value is not None:
                yield stage, task, language, metric, value


def benchmark_table(summary: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str, list[str]]]]:
    """The models, and rows of (benchmark, language, a cell per model)."""
    accuracies = scores(summary, {**METRICS, **SPOKEN, **CALLS})
    texts = {"bits per byte (less is better)": bits_per_byte(summary)}
    measured = {model for models in (*accuracies.values(), *texts.values()) for model in models}
    models = [name for name in summary["stages"] if name in measured]
    rows = []
    for tables, form in ((accuracies, "{:.1%}"), (texts, "{:.3f}")):
        for title, table in tables.items():
            for language in LANGUAGES:
                found = [table.get(model, {}).get(language) for model in models]
                if any(value is not None for value in found):
                    cells = ["" if value is None else form.format(value) for value in found]
                    rows.append((title, LANGUAGES[language], cells))
    return models, rows


def headline(summary: Mapping[str, Any], stages: Mapping[str, Manifest]) -> list[tuple[str, str, str]]:
    """The figures at the top: (value, name, explanation), of the last model."""
    tiles = []
    for title, models in scores(summary).items():
        model = list(models)[-1]
        for language, value in models[model].items():
            tiles.append((f"{100 * value:.0f}\u00a0%", LANGUAGES[language], title))
    measured = bits_per_byte(summary)
    for model in list(measured)[-1:]:
        for language, value in measured[model].items():
            tiles.append((f"{value:.2f}", LANGUAGES[language], "bits per byte of held-out text"))
    parameters = next((figures["parameters"] for figures in _figures(stages) if figures.get("parameters")), None)
    if parameters:
        tiles.append((f"{parameters / 1e6:.1f} M", "parameters", "weights of the model"))
    tiles.append((duration(sum(one.seconds for one in stages.values())), "in all", "work of every stage"))
    return tiles


def _figures(stages: Mapping[str, Manifest]) -> list[dict[str, float | None]]:
    return [manifest.figures for manifest in reversed(list(stages.values()))]


def verdict(summary: Mapping[str, Any]) -> str:
    """What the run came to, in a sentence or two."""
    found = scores(summary)
    strict = {title: models for title, models in found.items() if title.endswith(METRICS["rephrased_accuracy"])}
    parts = [f"{100 * value:.0f}\u00a0% right in {LANGUAGES[language]} ({title})"
             for title, models in (strict or found).items() for language, value in list(models.values())[-1].items()]
    if parts:
        return f"The last model answers {' and '.join(parts)}. Guessing among four choices gives 25\u00a0%."
    done = ", ".join(summary["stages"])
    return f"Finished: {done}." if done else "No stage is finished yet."


def stage_rows(stages: Mapping[str, Manifest]) -> list[dict[str, Any]]:
    """One row per stage: time, its share of the longest, memory, figures, settings."""
    longest = max((one.seconds for one in stages.values()), default=1.0) or 1.0
    return [{"name": name, "seconds": duration(one.seconds), "share": round(100 * one.seconds / longest, 1),
             "memory": size(one.peak_memory_bytes), "interruptions": one.interruptions, "finished": one.finished,
             "predicted": size(one.figures.get(MEMORY[0])), "measured": size(one.figures.get(MEMORY[1])),
             "figures": {key: number(value) for key, value in one.figures.items()
                         if "/" not in key and key not in MEMORY},
             "settings": yaml.safe_dump(one.settings, sort_keys=False, allow_unicode=True).strip(),
             "inputs": {key: (record.path, record.sha256[:12]) for key, record in one.inputs.items()},
             "files": len(one.outputs), "bytes": size(sum(record.bytes for record in one.outputs.values())),
             "command": shlex.join(one.command)} for name, one in stages.items()]


def commands(stages: Mapping[str, Manifest]) -> dict[str, list[str]]:
    """Every command that was given, with the stages it ran."""
    found: dict[str, list[str]] = {}
    for name, manifest in stages.items():
        found.setdefault(shlex.join(manifest.command), []).append(name)
    return found


def duration(seconds: float) -> str:
    """2.4 s, 3 min 12 s, 1 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float | None) -> str:
    """Bytes in decimal units (1 MB = 10^6), empty for None."""
    if count is None:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def number(value: float | None) -> str:
    """A figure with as many digits as help the eye."""
    if value is None:
        return "not finite"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
