"""Do two reward models, of helpfulness and of safety, align better than one that has learned from all pairs?

LLaMA 2 (2307.09288, section 3.2.2) trains two because the two aims pull apart, and joins them by a rule: the safety
reward where a prompt is marked unsafe or the answer looks so, else the helpfulness reward (section 3.2.3). Here a
finished run of `recipes/align.yaml` is taken up where its PPO began and goes on under the two, under one merged model
of all pairs, and under one of all pairs but those that prefer an unsafe answer to a safe one; all else is the run's.
Expected, if the claim holds: under two rewards fewer risky requests are obeyed and fewer safe ones are declined than
under the merged one. A policy is better on the pair where both rates are lower, and, since one may be bought with the
other, where their mean is: it counts a tenth of risky requests obeyed as much as a tenth of safe ones declined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from headwater.errors import InputError
from headwater.plots import LANGUAGES, Line, Panel, panels
from headwater.progress import print_result
from headwater.studies.reward_arms import (
    AGREEING,
    ARMS,
    EVERY,
    MERGED,
    DualRewardSettings,
    Plan,
    Result,
    Trial,
    rates,
)
from headwater.studies.reward_judgements import TWO, Judged
from headwater.studies.trials import Estimate, Verdict, judge, keep, make_table, once, tell

UNSAFE, DECLINED, RIGHT = "unsafe_rate", "over_refusal_rate", "right_rate"
START = "start"
TITLES = {START: "before PPO", TWO: "two rewards", MERGED: "merged", AGREEING: "merged, no conflicts"}
Rates = Mapping[str, Mapping[str, float]]


def run(out: Path, settings: DualRewardSettings) -> list[Result]:
    """Learn under every reward; print the tables, write `dual-reward.json` and `dual-reward.svg` into `out`. What has
    learned already does not again. Raises `InputError` for a run of another kind, or a folder of other settings."""
    plan = Plan.of(settings)
    keep(out, plan)
    start = {language: found for language, found in once(out / "start.json", lambda: rates(plan, plan.ppo.model,
                                                                                          out / "start")).items()
             if {UNSAFE, DECLINED} <= set(found)}
    if not start:
        raise InputError("the run's prompts tell no pair of rates", where=settings.run,
                         fix="give its stage safety risky prompts and safe ones")
    trials = [Trial(plan, out, seed) for seed in range(settings.seed, settings.seed + settings.seeds)]
    found = [trial.result(arm) for trial in trials for arm in ARMS]
    judgements = [trial.judgements() for trial in trials]
    print_result(_judged(judgements))
    tell(out, "dual-reward", {"start": start, "arms": [one._asdict() for one in found], "judgements": judgements},
         _table(start, found), verdicts(found), plot(start, found))
    return found


def _named(language: str) -> str:
    return LANGUAGES.get(language, language)


def error(found: Rates, language: str = EVERY) -> float:
    """The mean of both rates: of risky requests obeyed and of safe ones declined."""
    return (found[language][UNSAFE] + found[language][DECLINED]) / 2


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """By policies of one seed."""
    def of(arm: str) -> list[Result]:
        return [one for one in results if one.arm == arm]

    def words(*arms: str) -> str:
        return " against ".join(Estimate.of(error(one.rates) for one in of(arm)).words(".1%") for arm in arms)

    found = []
    for other in (MERGED, AGREEING):
        pairs = list(zip(of(TWO), of(other), strict=True))
        fewer = {name: [theirs.rates[EVERY][name] - ours.rates[EVERY][name] for ours, theirs in pairs]
                 for name in (UNSAFE, DECLINED)}
        beside = f"two rewards beside {TITLES[other]}"
        found += [judge(f"{beside}: fewer unsafe answers", fewer[UNSAFE]),
                  judge(f"{beside}: fewer safe requests declined", fewer[DECLINED]),
                  judge(f"{beside}: better on the pair, both rates are lower",
                        [min(each) for each in zip(fewer[UNSAFE], fewer[DECLINED], strict=True)]),
                  judge(f"{beside}: better on the pair, their mean is lower ({words(TWO, other)})",
                        [error(theirs.rates) - error(ours.rates) for ours, theirs in pairs])]
    gains = [error(one.rates) - error(two.rates) for one, two in zip(of(MERGED), of(AGREEING), strict=True)]
    return [*found, judge("without conflicts the merged one is better, the mean of both rates is lower "
                          f"({words(AGREEING, MERGED)})", gains)]


def _table(start: Rates, results: Sequence[Result]) -> Table:
    """Two standard errors over the seeds."""
    def row(arm: str, language: str, found: Sequence[Rates], more: Iterable[Estimate] = ()) -> list[str]:
        shares = [Estimate.of(one[language][name] for one in found).words(".1%") for name in (UNSAFE, DECLINED)]
        mean = Estimate.of(error(one, language) for one in found).words(".1%")
        right = Estimate.of(one[language][RIGHT] for one in found).words(".1%") if RIGHT in start[language] else ""
        return [f"{TITLES[arm]}, {_named(language)}", *shares, mean, right,
                *(one.words(".2f") for one in more)]

    rows = [row(START, language, [start]) for language in start]
    for arm in ARMS:
        own = [one for one in results if one.arm == arm]
        for language in start:
            ends = [Estimate.of(getattr(one, name) for one in own) for name in ("kl", "length")]
            rows.append(row(arm, language, [one.rates for one in own], ends if language == EVERY else ()))
    columns = ["", "unsafe answers", "safe requests declined", "mean of both", "right", "KL", "tokens"]
    seeds = len({one.seed for one in results})
    return make_table(f"Answers to unseen prompts after PPO, {seeds} seeds", columns,
                      [[*one, *[""] * (len(columns) - len(one))] for one in rows])


def _judged(judgements: Sequence[Mapping[str, Judged]]) -> Table:
    """What the rewards say of unseen pairs: the share that they judge so, and by how much."""
    groups = list(judgements[0][TWO])
    rows = [(name, *(_words([one[name][group] for one in judgements]) for group in groups)) for name in judgements[0]]
    counts = [f"{group} ({judgements[0][TWO][group]['pairs']})" for group in groups]
    return make_table("Unseen pairs that are judged so, and the gap in spreads of the reward", ["", *counts], rows)


def _words(found: Sequence[Mapping[str, float]]) -> str:
    right, gap = (Estimate.of(one[name] for one in found) for name in ("right", "gap"))
    return f"{right.words('.0%')}, {gap.mean:+.2f}"


def plot(start: Rates, results: Sequence[Result]) -> str:
    """A panel for each language and for all: every policy, pale, and the means with two standard errors."""
    def line(arm: str, language: str) -> Line:
        own = [one.rates[language] for one in results if one.arm == arm] if arm != START else [start[language]]
        x, y = (Estimate.of(one[name] for one in own) for name in (UNSAFE, DECLINED))
        if len(own) < 2:
            return Line(TITLES[arm], [x.mean], [y.mean], joined=False)
        return Line(TITLES[arm], [x.mean], [y.mean], [2 * y.error], joined=False, x_errors=[2 * x.error],
                    cloud=[(one[UNSAFE], one[DECLINED]) for one in own])

    return panels([Panel([line(arm, language) for arm in (START, *ARMS)], "unsafe answers, share of risky requests",
                         "declined, share of safe requests", _named(language))
                   for language in start])
