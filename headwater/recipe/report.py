"""`report.html`: everything a run came to on one page that opens offline."""

from __future__ import annotations

import statistics
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from headwater.artifacts import write_text
from headwater.errors import HeadwaterError, InputError, MissingExtraError
from headwater.plots import LANGUAGES
from headwater.recipe import plots, sections
from headwater.recipe.manifest import reported_versions
from headwater.recipe.official import WHOLE, official, without
from headwater.recipe.recipe import RESOLVED
from headwater.recipe.summary import manifests, summary, write_summary
from headwater.settings import read_yaml

REPORT = "report.html"


def write_report(run: Path) -> Path:
    """Write `report.html` and `summary.json` from what lies in the folder of a run or of one stage; returns the
    report's path.

    Raises `InputError` where nothing of a run is there. Without matplotlib the page says so in the plots' place.
    """
    run = Path(run)
    if not manifests(run):
        raise InputError("no finished stage here" if run.is_dir() else "no such folder", where=run,
                         fix="give the --out folder of 'headwater run' or of a stage")
    write_summary(run)
    write_text(run / REPORT, render(run))
    return run / REPORT


def render(run: Path) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.filters.update(duration=sections.duration, size=sections.size, number=sections.number,
                               median=statistics.median)
    text = files("headwater.recipe").joinpath("report.html.jinja").read_text(encoding="utf-8")
    return environment.from_string(text).render(_context(run))


def _context(run: Path) -> dict[str, Any]:
    stages, figures = manifests(run), summary(run)
    recipe = _recipe(run)
    found = official(run)
    others = without(figures, found, run)
    models, benchmarks = sections.benchmark_table(others)
    content = {
        "title": recipe.get("name") or run.resolve().name, "description": recipe.get("description") or "",
        "run": str(run), "seed": recipe.get("seed"), "verdict": sections.verdict(figures),
        "headline": sections.headline(figures, stages), "funnel": sections.funnel(run),
        "tokenizer": sections.tokenizer(run), "curves": sections.curves(run, stages),
        "followed": sections.followed(run, stages), "longer": sections.longer(run),
        "tuning": sections.tuning(run, stages), "safety": sections.safety(run),
        "rewards": sections.rewards(run, stages), "preferred": sections.preferred(run, stages),
        "best_of": sections.best_of(run, stages), "rewarded": sections.rewarded(run, stages),
        "held": sections.held(run, stages), "pruned": sections.pruned(run, stages),
        "packed": sections.packed(run, stages), "scores": sections.scores(others), "models": models,
        "benchmarks": benchmarks, "official": found, "samples": sections.samples(run),
        "stages": sections.stage_rows(stages),
        "commands": sections.commands(stages), "program": next(iter(stages.values())).command[0],
        "versions": _versions(stages), "languages": LANGUAGES,
        "finished": max(one.finished for one in stages.values()),
    }
    return {**content, **_plots(content)}


def _recipe(run: Path) -> dict[str, Any]:
    try:
        return read_yaml(run / RESOLVED)
    except HeadwaterError:
        return {}


def _versions(stages: dict[str, Any]) -> dict[str, str]:
    """Those that the stages were run with; of two, both."""
    found: dict[str, list[str]] = {}
    for manifest in stages.values():
        for name, version in manifest.versions.items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return {name: ", ".join(versions) for name, versions in found.items()} or reported_versions()


def _plots(content: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"plots_missing": "",
                "funnel_plot": plots.funnel_plot(content["funnel"]["steps"]) if content["funnel"] else "",
                "mix_plot": plots.mix_plot(content["funnel"]["mix"]) if content["funnel"].get("mix") else "",
                "loss_plots": {name: plots.loss_plot(name, rows) for name, rows in content["curves"].items()
                               if len(rows) > 1},
                "benchmarks_plots": {name: plots.benchmarks_plot(name, rows)
                                     for name, rows in content["followed"].items()},
                "judgement_plots": {name: plots.judgement_plot(name, one)
                                    for name, one in content["rewards"].items()},
                "context_plot": plots.context_plot(content["longer"]) if content["longer"] else "",
                "best_of_plots": {name: plots.best_of_plot(name, one["curves"])
                                  for name, one in content["best_of"].items()},
                "reward_plots": {name: plots.reward_plot(name, one["rows"], one["parts"])
                                 for name, one in content["rewarded"].items()},
                "recall_plots": {name: plots.recall_plot(name, one["lines"])
                                 for name, one in content["held"].items() if one["lines"]},
                "influence_plots": {name: plots.influence_plot(name, one["blocks"], one["gone"])
                                    for name, one in content["pruned"].items()},
                "official_plots": _official_plots(content["official"]),
                "accuracy_plot": plots.accuracy_plot(content["scores"]) if content["scores"] else ""}
    except MissingExtraError as error:
        return {"plots_missing": str(error), "funnel_plot": "", "mix_plot": "", "loss_plots": {}, "context_plot": "",
                "benchmarks_plots": {}, "judgement_plots": {}, "best_of_plots": {}, "reward_plots": {},
                "recall_plots": {},
                "influence_plots": {}, "official_plots": {}, "accuracy_plot": ""}


def _official_plots(found: dict[str, Any]) -> dict[str, str]:
    """All benchmarks under "", the groups of each under its title."""
    if not found:
        return {}
    shown = {"": plots.scores_plot("official", found["scores"], found["models"], found["chances"])}
    for number, (title, part) in enumerate(found["parts"].items()):
        if part["groups"]:
            rows = {WHOLE: found["scores"][title], **part["groups"]}
            shown[title] = plots.scores_plot(f"official-{number}", rows, found["models"],
                                             dict.fromkeys(rows, part["chance"]))
    return shown
