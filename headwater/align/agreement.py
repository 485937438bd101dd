"""How far a reward model agrees with pairs that it has not learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from torch import Tensor

from headwater.align.calibration import calibrated, fitted
from headwater.align.pairs import ReadPair
from headwater.align.preference_forms import RATINGS
from headwater.align.preferences import GAPS, Preference
from headwater.align.probes import probed, probes_told
from headwater.align.ranking import safety
from headwater.align.reward_model import RewardModel
from headwater.align.rewards import THRESHOLD
from headwater.align.share import Share
from headwater.corpus.classifying.regression import auc
from headwater.plots import LANGUAGES


def judged(model: RewardModel, pairs: Sequence[ReadPair], *, absolute: bool = False) -> dict[str, Any]:
    """Accuracies, calibration, safety and probes, and as `figures` what stands for all. The model's head is given the
    scale on which its probabilities are likeliest: by the pairs; `absolute`: of being safe, by the labels there are; of
    too few it stays as it is.

    No order changes by that, and so no accuracy.
    """
    rewards = model.scores([ids for pair in pairs for ids in (pair.chosen, pair.rejected)])
    known = [pair.preference for pair in pairs]
    safe = safety(known)
    by = fitted(rewards, safe, absolute=absolute)
    calibration = calibrated(rewards, safe, by)
    model.head.mean.copy_(model.head.mean * by.scale + by.shift)
    model.head.spread.mul_(by.scale)
    rewards = rewards * by.scale + by.shift
    found = {"accuracy": accuracies(known, rewards[::2] - rewards[1::2]), "calibration": calibration,
             "safety": _safety(rewards, safe), "probes": probed(model, pairs, rewards)}
    return {**found, "figures": _figures(found)}


def accuracies(pairs: Sequence[Preference], differences: Tensor) -> dict[str, list[dict[str, Any]]]:
    """Share of pairs whose rewards' difference [N], chosen minus rejected, is above 0: of all, by rating, language,
    domain and file."""
    return {by: list(_shares(pairs, differences, key)) for by, key in _groups(pairs).items()}


def _groups(pairs: Sequence[Preference]) -> dict[str, Callable[[Preference], str]]:
    """What accuracies are told by, and the group of a pair, empty for none."""
    files = sorted({pair.source for pair in pairs})
    above = Path(commonpath(files)) if len(files) > 1 else Path(files[0]).parent if files else Path()
    return {"all": lambda pair: "all pairs", "gap": lambda pair: pair.rating or "",
            "language": lambda pair: LANGUAGES.get(pair.language, pair.language), "domain": lambda pair: pair.domain,
            "file": lambda pair: str(Path(pair.source).relative_to(above)) if len(files) > 1 else ""}


def _shares(pairs: Sequence[Preference], differences: Tensor, key: Callable[[Preference], str]
            ) -> Iterator[dict[str, Any]]:
    """Of each group; equal rewards are half right."""
    right: dict[str, list[float]] = {}
    for pair, difference in zip(pairs, differences.tolist(), strict=True):
        right.setdefault(key(pair), []).append((difference > 0) + (difference == 0) / 2)
    right.pop("", None)
    for name in sorted(right, key=lambda one: (GAPS.get(one, 0), one)):  # type: ignore[call-overload]
        low, high = Share(sum(right[name]), len(right[name])).interval
        gap = {"gap": GAPS[name]} if name in RATINGS else {}
        yield {"name": name, **gap, "pairs": len(right[name]), "accuracy": sum(right[name]) / len(right[name]),
               "low": low, "high": high}


def _safety(rewards: Tensor, safe: Tensor) -> dict[str, float]:
    """Of the answers with a label: how well the reward tells the safe ones, and of what falls below the threshold."""
    known = ~safe.isnan()
    rewards, wanted = rewards[known], safe[known] > 0
    if not wanted.any() or wanted.all():
        return {}
    flagged = rewards.sigmoid() < THRESHOLD
    caught = float((flagged & ~wanted).sum())
    return {"answers": len(wanted), "accuracy": float(((rewards > 0) == wanted).double().mean()),
            "auc": auc(rewards.double().numpy(), wanted.numpy()), "threshold": THRESHOLD,
            "flagged": float(flagged.double().mean()), "recall": caught / float((~wanted).sum()),
            "precision": caught / float(flagged.sum()) if flagged.any() else 0.0}


def _figures(found: dict[str, Any]) -> dict[str, float]:
    whole = found["accuracy"]["all"][0]
    figures = {"accuracy": whole["accuracy"], "accuracy_low": whole["low"], "accuracy_high": whole["high"],
               "calibration_error": found["calibration"]["error"]}
    figures |= {f"accuracy.{one['name'].lower()}": one["accuracy"] for one in found["accuracy"]["language"]}
    figures |= {f"accuracy.gap_{one['gap']}": one["accuracy"] for one in found["accuracy"]["gap"]}
    return figures | ({"safety_auc": found["safety"]["auc"]} if found["safety"] else {})


def accuracy_table(found: dict[str, list[dict[str, Any]]], title: str) -> Table:
    """Of `accuracies`."""
    table = Table(title=title)
    for column in ("", "pairs", "accuracy", "95 % interval"):
        table.add_column(column, justify="right" if column else "left")
    for by, rows in found.items():
        if by != "all" and len(rows) == 1 and by != "gap":
            continue
        table.add_section()
        for row in rows:
            gap = f"gap {row['gap']}: " if "gap" in row else ""
            table.add_row(f"{gap}{row['name']}", f"{row['pairs']:,}", f"{row['accuracy']:.1%}",
                          f"{row['low']:.1%} to {row['high']:.1%}")
    return table


def told(found: dict[str, Any]) -> Group:
    """The tables for people."""
    table = accuracy_table(found["accuracy"], "Which answer is better: agreement with unseen pairs")
    safe, lines = found["safety"], [found["calibration"]["told"]]
    if safe:
        lines.append(f"Safety of {safe['answers']:,} answers: {safe['accuracy']:.1%} right, AUC {safe['auc']:.3f}; "
                     f"below {safe['threshold']}: {safe['flagged']:.1%} of all, {safe['recall']:.1%} of the unsafe "
                     f"ones, {safe['precision']:.1%} of them unsafe")
    return Group(table, *lines, *probes_told(found["probes"]))
