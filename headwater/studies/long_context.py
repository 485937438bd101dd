"""What does each way to a longer context keep: a low perplexity, or what was said before?

Models with rotary positions (of a usual base and of a tiny one), with ALiBi, without positions, and without positions
but with a window, read the same text, in half of whose rows marks are asked for. Each is then read up to `factor`
times the trained length as it is and by every method made for it, some after a short training at that length, and
measured by the perplexity of the same last tokens and by the share of marks found. Expected, if the claims of the
field hold (ALiBi, 2108.12409; position interpolation, 2306.15595; YaRN, 2309.00071; RoPE's bound, 2405.14591;
positional vectors, 2405.18009): ALiBi's perplexity stays flat where RoPE's explodes; YaRN and NTK help without
training, interpolation only after some; a base below the bound keeps the perplexity and loses the marks; positional
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
from headwater.studies.planted import VALUES
from headwater.studies.trials import Estimate, Verdict, judge, keep, make_table, tell

FLAT = 1.05
"""At most so many times the perplexity at the trained length."""
EXPLODED = 1.5
"""At least so many."""
NEAR = 0.05
"""Share by which the perplexities of two bases may differ."""
FEWER = 0.3
"""Share of marks that the lower base loses at least."""
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
    results = {"stretching": stretched, "ways": [{"kind": kind, "way": name, "seeds": [one._asdict() for one in seeds]}
                                                 for (kind, name), seeds in found.items()]}
    tell(out, "long-context", results, _table(found, settings), verdicts(found, stretched, settings),
         plot(found, settings))


def _perplexity(seeds: Sequence[Measured], length: int) -> Estimate:
    return Estimate.of(math.exp(one.loss[str(length)]) for one in seeds)


def _share(seeds: Sequence[Measured], length: int) -> Estimate:
    return Estimate.of(one.share(length) for one in seeds)


def _table(found: Found, settings: LongSettings) -> Table:
    columns = ["model, read", *(f"perplexity, {length:,}" for length in settings.lengths),
               *(f"found, {length:,}" for length in settings.lengths)]
    rows = [(f"{kind}, {name}", *(_perplexity(seeds, length).words(".2f") for length in settings.lengths),
             *(_share(seeds, length).words(".0%") for length in settings.lengths))
            for (kind, name), seeds in found.items()]
    return make_table(f"Trained on {settings.length:,} tokens, read up to {settings.longest:,}; chance finds "
                      f"{1 / VALUES:.0%}", columns, rows)


def verdicts(found: Found, stretched: Sequence[Mapping[str, float]], settings: LongSettings) -> list[Verdict]:
    """One for each claim, by seeds."""
    short, long = str(settings.length), str(settings.longest)
    plain = {kind: (kind, "as it is") for kind in KINDS}

    def grown(kind: str) -> list[float]:
        """Times the perplexity at the trained length."""
        return [math.exp(one.loss[long] - one.loss[short]) for one in found[plain[kind]]]

    def lower(claim: str, one: tuple[str, str], two: tuple[str, str]) -> Verdict:
        """The perplexity of the first at the longest is below the other's."""
        words = " against ".join(_perplexity(found[way], settings.longest).words(".2f") for way in (one, two))
        return judge(f"{claim} (perplexity at {settings.longest:,}: {words})", [
            b.loss[long] - a.loss[long] for a, b in zip(found[one], found[two], strict=True)])

    return [
        judge(f"ALiBi's perplexity stays within {FLAT - 1:.0%} at {settings.factor} times the length "
              f"({_times(grown('alibi'))})", [FLAT - each for each in grown("alibi")]),
        judge(f"RoPE's explodes, to {EXPLODED} times at least ({_times(grown('rope'))})",
              [each - EXPLODED for each in grown("rope")]),
        lower("YaRN helps without training", ("rope", "yarn"), plain["rope"]),
        lower("NTK helps without training", ("rope", "ntk"), plain["rope"]),
        lower("interpolation without training does worse than nothing", plain["rope"], ("rope", "linear")),
        lower("interpolation with a short training helps", ("rope", "linear, trained on"), plain["rope"]),
        *_of_bases(found, settings),
        lower("vectors replaced help a model without positions", ("none", "vectors replaced"), plain["none"]),
        lower("shuffled vectors do not", plain["none"], ("none", "shuffled vectors")),
        judge(f"a window keeps a model without positions within a third of what it loses ({_times(grown('window'))} "
              f"against {_times(grown('none'))})",
              [(all_ - 1) / 3 - (some - 1) for all_, some in zip(grown("none"), grown("window"), strict=True)]),
        judge(f"a window {settings.factor} times as wide stretches positional vectors as far, within {LIKE:.0%} "
              f"({_times([one['widened'] for one in stretched])}; the window as it is "
              f"{_times([one['as it is'] for one in stretched])})",
              [LIKE - abs(one["widened"] / settings.factor - 1) for one in stretched])]


def _times(ratios: Sequence[float]) -> str:
    return f"{Estimate.of(ratios).words('.2f')} times"


def _of_bases(found: Found, settings: LongSettings) -> list[Verdict]:
    """The low base against the usual one, within the trained length."""
    usual, low = (found[kind, "as it is"] for kind in ("rope", "rope, low base"))
    worse = [math.exp(two.loss[str(settings.length)] - one.loss[str(settings.length)]) - 1
             for one, two in zip(usual, low, strict=True)]
    lost = [one.share(settings.length) - two.share(settings.length) for one, two in zip(usual, low, strict=True)]
    return [judge(f"a base of {settings.low_base:g} keeps the perplexity within {NEAR:.0%} "
                  f"({Estimate.of(worse).words('+.1%')})", [NEAR - each for each in worse]),
            judge(f"but finds at least {FEWER:.0%} fewer of the marks ({Estimate.of(lost).words('.0%')} fewer)",
                  [each - FEWER for each in lost])]


def plot(found: Found, settings: LongSettings) -> str:
    """The models as they are, those with rotary positions by every method without training, and the others after some,
    each by both measures or by perplexity."""
    def lines(chosen: Callable[[str, str], str | None],
              value: Callable[[Sequence[Measured], int], Estimate]) -> list[Line]:
        drawn = []
        for (kind, name), seeds in found.items():
            label = chosen(kind, name)
            if label is not None:
                points = [value(seeds, length) for length in settings.lengths]
                drawn.append(Line(label, settings.lengths, [one.mean for one in points],
                                  [2 * one.error for one in points]))
        return drawn

    def perplexity(title: str, chosen: Callable[[str, str], str | None]) -> Panel:
        return Panel(lines(chosen, _perplexity), "tokens of context", "perplexity", title, log_x=True, log_y=True,
                     ticks=settings.lengths)

    def marks(title: str, chosen: Callable[[str, str], str | None]) -> Panel:
        return Panel(lines(chosen, _share), "tokens of context", "marks found", title, log_x=True,
                     ticks=settings.lengths, limits=(-0.03, 1.03))

    def plain(kind: str, name: str) -> str | None:
        return kind if name == "as it is" else None

    def untrained(kind: str, name: str) -> str | None:
        return name if kind == "rope" and "trained" not in name else None

    def trained(kind: str, name: str) -> str | None:
        return name if kind == "rope" and "trained" in name else None

    def without(kind: str, name: str) -> str | None:
        return f"{kind}, {name}" if kind in ("none", "window") else None

    return panels([perplexity("as they are", plain), perplexity("rotary, untrained", untrained),
                   perplexity("rotary, trained on", trained), marks("as they are", plain),
                   marks("rotary, untrained", untrained), perplexity("without positions", without)], columns=3)
