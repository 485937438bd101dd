"""What does each way to a longer context keep: a low perplexity, or what was said before?

Models with rotary positions (of a usual base and of a tiny one), with ALiBi, without positions, and without positions
but with a window, read the same text, in half of whose rows needles are asked for. Each is then read up to `factor`
times the trained length as it is and by every method made for it, some after a short training at that length, and
measured by the perplexity of the same last tokens and by the share of needles found. Expected, if the claims of the
field hold (ALiBi, 2108.12409; position interpolation, 2306.15595; YaRN, 2309.00071; RoPE's bound, 2405.14591;
positional vectors, 2405.18009): ALiBi's perplexity stays flat where RoPE's explodes; YaRN and NTK help without
training, interpolation only after some; a base below the bound keeps the perplexity and loses the needles; positional
vectors replaced by stretched ones help a model without positions, shuffled ones do not; a wider window stretches them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.table import Table

from headwater.hardware import cores
from headwater.plots import Line, Panel, panels
from headwater.studies.long_models import KINDS, Laboratory, LongSettings, Measured, ways
from headwater.studies.trials import Estimate, Verdict, judge, keep, make_table, tell

FLAT = 1.05
"""At most so many times the perplexity at the trained length."""
EXPLODED = 1.5
"""At least so many."""
NEAR = 0.05
"""Share by which the perplexities of two bases may differ."""
FEWER = 0.3
"""Share of needles that the lower base loses, of those beyond half of the trained length."""
LIKE = 0.2
"""By which share of the factor vectors may be stretched more or less than by it."""

Found = Mapping[tuple[str, str], Sequence[Measured]]
"""By kind and name of the way, a seed each."""


def run(out: Path, settings: LongSettings) -> None:
    """Train and measure all; print the table, write `long-context.json` and `long-context.svg` into `out`. What is
    trained or measured already is not again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    torch.set_num_threads(settings.threads or cores())
    found: dict[tuple[str, str], list[Measured]] = {}
    stretched = []
    for seed in settings.each_seed():
        laboratory = Laboratory(settings, out, seed)
        for way in ways(settings):
            found.setdefault((way.kind, way.name), []).append(laboratory.measured(way))
        stretched.append(laboratory.stretching())
    results = {"stretching": stretched, "ways": [
        {"kind": kind, "way": name, "seeds": [one._asdict() for one in seeds]} for (kind, name), seeds in found.items()]}
    tell(out, "long-context", results, _table(found, settings), verdicts(found, stretched, settings),
         plot(found, settings))


def _perplexity(seeds: Sequence[Measured], length: int) -> Estimate:
    return Estimate.of(math.exp(one.loss[str(length)]) for one in seeds)


def _table(found: Found, settings: LongSettings) -> Table:
    columns = ["model, read", *(f"perplexity, {length:,}" for length in settings.lengths),
               *(f"found, {length:,}" for length in settings.lengths)]
    rows = [(f"{kind}, {name}", *(_perplexity(seeds, length).words(".2f") for length in settings.lengths),
             *(Estimate.of(100 * one.share(length) for one in seeds).words(".0f") + " %" for length in settings.lengths))
            for (kind, name), seeds in found.items()]
    return make_table(f"Trained on {settings.length} tokens, the last of up to {settings.longest:,} told", columns, rows)


def verdicts(found: Found, stretched: Sequence[float], settings: LongSettings) -> list[Verdict]:
    """One for each claim, by seeds."""
    short, long = str(settings.length), str(settings.longest)

    def ratio(one: tuple[str, str], at: str, two: tuple[str, str], to: str) -> list[float]:
        """Of perplexities."""
        return [math.exp(a.loss[at] - b.loss[to]) for a, b in zip(found[one], found[two], strict=True)]

    plain = {kind: (kind, "as it is") for kind in KINDS}
    rope, none = plain["rope"], plain["none"]

    def grown(kind: str) -> list[float]:
        return ratio(plain[kind], long, plain[kind], short)

    def lower(claim: str, one: tuple[str, str], two: tuple[str, str], words: str = "") -> Verdict:
        by = ratio(two, long, one, long)
        told = f"{claim}: its perplexity at {settings.longest:,} is lower than {words or 'as it is'}"
        return judge(f"{told} ({Estimate.of(by).words('.3f')} times as high)", [each - 1 for each in by])

    return [
        judge(f"ALiBi's perplexity stays within {FLAT - 1:.0%} ({_times(grown('alibi'))} at {settings.factor} times the "
              "length)", [FLAT - each for each in grown("alibi")]),
        judge(f"RoPE's explodes ({_times(grown('rope'))})", [each - EXPLODED for each in grown("rope")]),
        *(lower(f"{words} helps without training", ("rope", name), rope) for words, name in (
            ("YaRN", "yarn"), ("NTK", "ntk"))),
        lower("interpolation does not", rope, ("rope", "linear"), "interpolated"),
        lower("but does after a short training", ("rope", "linear, trained on"), rope),
        *_of_bases(found, settings),
        lower("vectors replaced help a model without positions", ("none", "vectors replaced"), none),
        lower("shuffled ones do not", none, ("none", "shuffled vectors"), "with them"),
        judge(f"a window keeps a model without positions within a third of what it loses ({_times(grown('window'))} "
              f"against {_times(grown('none'))})",
              [(all_ - 1) / 3 - (some - 1) for all_, some in zip(grown("none"), grown("window"), strict=True)]),
        judge(f"a window {settings.factor} times as wide stretches positional vectors as far, within {LIKE:.0%} "
              f"({_times(stretched)})", [LIKE - abs(each / settings.factor - 1) for each in stretched])]


def _times(ratios: Sequence[float]) -> str:
    return f"{Estimate.of(ratios).words('.2f')} times"


def _of_bases(found: Found, settings: LongSettings) -> list[Verdict]:
    """The low base against the usual one, within the trained length; needles count in the first half of the text."""
    usual, low = (found[kind, "as it is"] for kind in ("rope", "rope, low base"))
    worse = [math.exp(two.loss[str(settings.length)] - one.loss[str(settings.length)]) - 1
             for one, two in zip(usual, low, strict=True)]
    far = slice(0, 2)
    lost = [one.share(settings.length, far) - two.share(settings.length, far)
            for one, two in zip(usual, low, strict=True)]
    return [judge(f"a base of {settings.low_base:g} keeps the perplexity within {NEAR:.0%} "
                  f"({Estimate.of(worse).words('+.1%')})", [NEAR - each for each in worse]),
            judge(f"but finds at least {FEWER:.0%} fewer needles that are far ({Estimate.of(lost).words('.0%')})",
                  [each - FEWER for each in lost])]


def plot(found: Found, settings: LongSettings) -> str:
    """The models as they are, by both measures, then what helps those with rotary positions and those without."""
    def lines(chosen: Callable[[str, str], str | None], value: Callable[[Sequence[Measured], int], Estimate]) -> list[Line]:
        drawn = []
        for (kind, name), seeds in found.items():
            label = chosen(kind, name)
            if label is not None:
                points = [value(seeds, length) for length in settings.lengths]
                drawn.append(Line(label, settings.lengths, [one.mean for one in points],
                                  [2 * one.error for one in points]))
        return drawn

    def panel(title: str, chosen: Callable[[str, str], str | None]) -> Panel:
        return Panel(lines(chosen, _perplexity), "tokens of context", "perplexity", title, log_x=True, log_y=True)

    def share(seeds: Sequence[Measured], length: int) -> Estimate:
        return Estimate.of(one.share(length) for one in seeds)

    return panels([
        panel("as they are", lambda kind, name: kind if name == "as it is" else None),
        Panel(lines(lambda kind, name: kind if name == "as it is" else None, share), "tokens of context",
              "needles found", "as they are", log_x=True, limits=(-0.03, 1.03)),
        panel("rotary positions, untrained", lambda kind, name: name if kind == "rope" and "trained" not in name else None),
        panel("rotary positions, trained on", lambda kind, name: name if kind == "rope" and "trained" in name else None),
        panel("without positions", lambda kind, name: f"{kind}: {name}" if kind in ("none", "window") else None)])
