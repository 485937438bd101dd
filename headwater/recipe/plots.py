"""The report's plots, as SVG whose colours follow the page (light or dark) and whose text stays text."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwater.errors import MissingExtraError
from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.plots import LANGUAGES as NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#010101", "#020202", "#030303"
SERIES = ("#040404", "#050505", "#060606", "#070707")
_VARIABLES = {INK: "--ink", SOFT: "--soft", GRID: "--line",
              **{colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)}}
"""Placeholder colours, replaced in the finished SVG by the page's variables."""
LANGUAGES = {code: (colour, name) for colour, (code, name) in zip(SERIES, NAMES.items())}
WIDTH = 5.6
"""Inches: a phone shows the plot whole, its text still to be read."""
CHANCE = 0.25
"""Of a question with four choices."""
CHOICES = ("accuracy", "rephrased_accuracy")
"""The metrics of such questions."""
LOSS_OF = {"reward": " (nats per pair)", "dpo": " (nats per pair)", "task": ""}
"""What a loss is of, by the kind of the stage; of the others a token."""
FEW = 10
"""The number of points below which they are marked: of two, a line alone would hardly be seen."""
WIDE = 20
"""The ratio of its ends from which on an axis is logarithmic."""


def _figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the report's plots need matplotlib",
                                fix="pip install 'headwater[report]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for one in axes:
        one.set_facecolor("none")
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(GRID)
        one.tick_params(colors=SOFT, length=0, labelsize=9)
    return figure, axes


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as one <svg> element; the same figure gives the same bytes."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # Only the page's fonts need the glyphs: the text is not drawn here.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    # Sized by the page; ids must not meet those of the page's other plots.
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', rf'\1 role="img" aria-label="{description}"', text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)


def funnel_plot(steps: Sequence[Mapping[str, Any]]) -> str:
    """Documents left after every step, by language where it is known."""
    figure, (axes,) = _figure(1, 1, WIDTH, 0.8 + 0.36 * (len(steps) + 1))
    rows = [("found", steps[0]["documents_in"], {})] + [
        (step["step"], step["documents_out"],
         {language: counts["documents_out"] for language, counts in step["languages"].items()}) for step in steps]
    rows[0][2].update({language: counts["documents_in"] for language, counts in steps[0]["languages"].items()})
    for place, (_, total, languages) in enumerate(rows):
        left = 0
        for language, (colour, _) in LANGUAGES.items():
            axes.barh(place, languages.get(language, 0), left=left, color=colour, height=0.66)
            left += languages.get(language, 0)
        axes.barh(place, total - left, left=left, color=SOFT, height=0.66)
        axes.annotate(f"{total:,}", (total, place), xytext=(5, 0), textcoords="offset points", va="center",
                      fontsize=9, color=INK)
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name, _, _ in rows])
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.spines[["bottom"]].set_visible(False)
    axes.margins(x=0.12)
    _legend(axes, [LANGUAGES["en"], LANGUAGES["zh"], (SOFT, "other or not yet known")])
    return _svg(figure, "funnel", "Documents left after every step of the corpus")


def mix_plot(shares: Sequence[Mapping[str, Any]]) -> str:
    """What there is of every group beside what is written of it, in millions of tokens."""
    figure, (axes,) = _figure(1, 1, WIDTH, 0.9 + 0.5 * len(shares))
    for place, share in enumerate(shares):
        axes.barh(place - 0.2, share["tokens"] / 1e6, color=SOFT, height=0.36)
        axes.barh(place + 0.2, share["written_tokens"] / 1e6, color=SERIES[0], height=0.36)
        axes.annotate(f"{share['epochs']:.2f} epochs", (max(share["tokens"], share["written_tokens"]) / 1e6, place),
                      xytext=(5, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(shares)), [share["group"] for share in shares])
    axes.invert_yaxis()
    axes.set_xlabel("million tokens")
    axes.margins(x=0.18)
    _legend(axes, [(SOFT, "there is"), (SERIES[0], "written")])
    return _svg(figure, "mix", "Composition of the training split")


def loss_plot(name: str, rows: Sequence[Mapping[str, float]]) -> str:
    """Training loss over tokens, the validation's bits per byte or loss beside it where they were taken."""
    names = sorted({key for row in rows for key in row if key.startswith("validation")})
    held_out = {key: [(row["tokens"] / 1e6, row[key]) for row in rows if key in row] for key in names}
    shown = {key: points for key, points in held_out.items() if len(points) > 1}
    figure, axes = _figure(1, 2 if shown else 1, WIDTH, 2.9)
    tokens, losses = [row["tokens"] / 1e6 for row in rows], [row["loss"] for row in rows]
    axes[0].plot(tokens, losses, color=SERIES[0], linewidth=1, alpha=0.3, marker="o" if len(rows) < FEW else "",
                 markersize=3)
    axes[0].plot(tokens, _smooth(losses), color=SERIES[0], linewidth=1.8)
    axes[0].set_title("training loss" + LOSS_OF.get(name.partition("_")[0], " (nats per token)"), **_TITLE)
    for number, (key, points) in enumerate(shown.items()):
        language = next((code for code in LANGUAGES if f".{code}." in key), None)
        colour, label = LANGUAGES[language] if language else (SERIES[number % 4], key.removeprefix("validation."))
        axes[1].plot(*zip(*points, strict=True), color=colour, linewidth=1.8, marker="o", markersize=3, label=label)
    if shown:
        per_byte = all("bits_per_byte" in key for key in shown)
        axes[1].set_title("held-out bits per byte" if per_byte else "held-out loss", **_TITLE)
        axes[1].legend(frameon=False, fontsize=9, labelcolor=INK)
    for one in axes:
        one.set_xlabel("million tokens", fontsize=9, color=SOFT)
        one.grid(color=GRID, linewidth=0.6)
        one.set_axisbelow(True)
    return _svg(figure, f"loss-{name}", f"Loss of the stage {name} over the tokens seen")


def benchmarks_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """What was measured of the snapshots of a training, over the tokens read: a panel for each metric of a task, a line
    for each language, and the line of chance for choices."""
    panels: dict[tuple[str, str], list[str]] = {}
    for key in sorted({key for row in rows for key in row if key.count(".") > 1}):
        task, _, metric = key.split(".", 2)
        panels.setdefault((task, metric), []).append(key)
    figure, axes = _figure(-(-len(panels) // 2), min(2, len(panels)), WIDTH, 2.5 * -(-len(panels) // 2))
    for one, ((task, metric), keys) in zip(axes, panels.items(), strict=False):
        for number, key in enumerate(keys):
            language = key.split(".", 2)[1]
            colour, label = LANGUAGES.get(language, (SERIES[number % len(SERIES)], language))
            points = [(row["tokens"] / 1e6, row[key]) for row in rows if key in row]
            one.plot(*zip(*points, strict=True), color=colour, linewidth=1.8, marker="o", markersize=3, label=label)
        _named(one, f"{task}, {metric}".replace("_", " "), "million tokens")
        if metric in CHOICES:
            _chance(one, BENCHMARKS[task].chance if task in BENCHMARKS else CHANCE)
            one.set_ylim(-0.03, 1.03)
            one.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    for spare in axes[len(panels):]:
        spare.set_visible(False)
    return _svg(figure, f"benchmarks-{name}", f"Benchmarks of the stage {name} over the tokens seen")


def judgement_plot(name: str, found: Mapping[str, Any]) -> str:
    """A reward model's accuracy by gap, or by language where no pair is rated, and how its probabilities come true."""
    groups, bins = found["accuracy"]["gap"] or found["accuracy"]["language"], found["calibration"]["bins"]
    figure, (left, right) = _figure(1, 2, WIDTH, 2.9)
    for place, one in enumerate(groups):
        left.bar(place, one["accuracy"], width=0.6, color=SERIES[0])
        left.vlines(place, one["low"], one["high"], color=INK, linewidth=1)
    left.axhline(0.5, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    left.set_xticks(range(len(groups)), [str(one.get("gap", one["name"])) for one in groups])
    left.set_ylim(0, 1.05)
    left.set_title("accuracy by gap" if found["accuracy"]["gap"] else "accuracy", **_TITLE)
    right.plot([0.5, 1], [0.5, 1], color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    right.plot([one["probability"] for one in bins], [one["accuracy"] for one in bins], color=SERIES[1], linewidth=1.8,
               marker="o", markersize=4)
    right.set_ylim(-0.05, 1.05)
    right.set_title("accuracy by probability", **_TITLE)
    right.set_xlabel("probability of the answer preferred", fontsize=9, color=SOFT)
    return _svg(figure, f"reward-{name}", f"Accuracy of the reward model {name} by gap and by its probability")


def context_plot(longer: Mapping[str, Any]) -> str:
    """Perplexity and needles found by the length of the context, before and after."""
    shown = {"perplexity": "perplexity", "found": "needles found again"}
    if not longer["rows"][0]["found"]:
        del shown["found"]
    figure, axes = _figure(1, len(shown), WIDTH, 2.9)
    for one, (quantity, title) in zip(axes, shown.items(), strict=True):
        for row, colour in zip(longer["rows"], SERIES, strict=False):
            one.plot(longer["lengths"], row[quantity], color=colour, linewidth=1.8, marker="o", markersize=3,
                     label=row["name"])
        one.set_xscale("log", base=2)
        one.set_xticks(longer["lengths"], [f"{length:,}" for length in longer["lengths"]])
        one.set_title(title, **_TITLE)
        one.set_xlabel("tokens of context", fontsize=9, color=SOFT)
        one.grid(color=GRID, linewidth=0.6)
        one.set_axisbelow(True)
    values = [value for row in longer["rows"] for value in row["perplexity"]]
    if max(values) > WIDE * min(values):
        axes[0].set_yscale("log")
        axes[0].tick_params(which="both", colors=SOFT, length=0, labelsize=9)
    if len(axes) > 1:
        axes[1].set_ylim(-0.03, 1.03)
    axes[0].legend(frameon=False, fontsize=9, labelcolor=INK)
    return _svg(figure, "context", "Perplexity and needles found again by the length of the context")


def reward_plot(name: str, rows: Sequence[Mapping[str, Any]], parts: Sequence[str]) -> str:
    """What the answers of every iteration came to: rewards, distance from the reference, length and entropy."""
    at = [row["iteration"] for row in rows]
    figure, axes = _figure(2, 2, WIDTH, 4.6)
    for number, part in enumerate(parts):
        axes[0].plot(at, [row["reward"].get(part, {}).get("mean") for row in rows], color=SERIES[number % len(SERIES)],
                     linewidth=1.6, linestyle=("-", ":")[number // len(SERIES) % 2], label=part)
    axes[0].plot(at, [row["reward"]["total"]["mean"] for row in rows], color=INK, linewidth=1.6, linestyle="--",
                 label="total")
    bottom, top = axes[0].get_ylim()
    axes[0].set_ylim(bottom, top + 0.15 * (len(parts) // 2 + 2) * (top - bottom))  # room for the names
    axes[0].legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", ncols=2)
    for one, key in ((axes[1], "kl"), (axes[2], "length"), (axes[3], "entropy")):
        one.plot(at, [row[key] for row in rows], color=SERIES[0], linewidth=1.6)
    titles = ("mean reward", "KL to the reference, nats an answer", "tokens an answer", "entropy, nats a token")
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title, **_TITLE)
        one.grid(color=GRID, linewidth=0.6)
        one.set_axisbelow(True)
    for one in axes[2:]:
        one.set_xlabel("iteration", fontsize=9, color=SOFT)
    return _svg(figure, f"reward-{name}", f"Rewards, KL, length and entropy over the iterations of {name}")


def best_of_plot(name: str, told: Mapping[str, Sequence[float]]) -> str:
    """Rewards of the best, the mean and the middle of k answers."""
    figure, (axes,) = _figure(1, 1, WIDTH, 2.9)
    for quantity, colour in zip(("max", "mean", "median"), SERIES, strict=False):
        axes.plot(told["k"], told[quantity], color=colour, linewidth=1.8, marker="o", markersize=3, label=quantity)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    _named(axes, "reward", "answers to a prompt")
    return _svg(figure, f"best-of-{name}", f"Rewards of the best, the mean and the middle of k answers in {name}")


def influence_plot(name: str, blocks: Sequence[Mapping[str, Any]], gone: Sequence[int]) -> str:
    """The influence of every block, those that were taken out in another colour."""
    figure, (axes,) = _figure(1, 1, WIDTH, 2.9)
    from matplotlib.ticker import LogLocator  # there, since there is a figure

    for label, colour, own in (("stays", SERIES[0], [one for one in blocks if one["layer"] not in gone]),
                               ("taken out", SERIES[1], [one for one in blocks if one["layer"] in gone])):
        axes.errorbar([one["layer"] for one in own], [one["influence"] for one in own],
                      [2 * one["error"] for one in own], color=colour, label=label, linestyle="", marker="o",
                      markersize=5, capsize=2)  # no bars: a logarithmic axis has no nought for them to begin at
    axes.set_yscale("log", subs=())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.locator_params(axis="x", integer=True)
    axes.tick_params(which="both", colors=SOFT, length=0, labelsize=9)
    _named(axes, "influence, 1 - cos(x, y)", "block")
    return _svg(figure, f"influence-{name}", f"Influence of every block in {name}, and which were taken out")


def _named(axes: Axes, title: str, below: str) -> None:
    """A grid, the lines' names, and what is measured over what."""
    axes.set_title(title, **_TITLE)
    axes.set_xlabel(below, fontsize=9, color=SOFT)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def recall_plot(name: str, lines: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The share of answers that obey, by turn, with 95 % intervals."""
    figure, (axes,) = _figure(1, 1, WIDTH, 2.9)
    for number, ((title, turns), colour) in enumerate(zip(lines.items(), SERIES, strict=False)):
        at = [turn + 0.06 * number for turn in range(1, len(turns) + 1)]
        axes.plot(at, [one["rate"] for one in turns], color=colour, linewidth=1.8, marker="o", markersize=3,
                  label=title)
        axes.vlines(at, [one["low"] for one in turns], [one["high"] for one in turns], color=colour, linewidth=1)
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_xticks(range(1, 1 + max(len(turns) for turns in lines.values())))
    _named(axes, "answers that obey", "turn")
    return _svg(figure, f"recall-{name}", f"Share of answers that obey an instruction by turn, in {name}")


def accuracy_plot(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Accuracy by task, model and language (`scores[task][model][language]`), with the line of chance."""
    columns = min(2, len(scores))
    rows = -(-len(scores) // columns)
    figure, axes = _figure(rows, columns, WIDTH, 2.5 * rows)
    for one, (task, models) in zip(axes, scores.items(), strict=False):
        for place, languages in enumerate(models.values()):
            for side, language in ((-0.2, "en"), (0.2, "zh")):
                if language in languages:
                    value = languages[language]
                    one.bar(place + side, value, width=0.36, color=LANGUAGES[language][0])
                    one.annotate(f"{100 * value:.0f}", (place + side, value), xytext=(0, 2), ha="center",
                                 textcoords="offset points", fontsize=9, color=INK)
        _chance(one)
        one.set_xticks(range(len(models)), list(models))
        one.set_ylim(0, 1.1)
        one.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        one.set_title(task, **_TITLE)
    for spare in axes[len(scores):]:
        spare.set_visible(False)
    _legend(axes[0], LANGUAGES.values())
    return _svg(figure, "accuracy", "Accuracy of every model by task and language")


def scores_plot(name: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]], models: Sequence[str],
                chances: Mapping[str, float]) -> str:
    """Scores with their intervals (`rows[row][model]`), what guessing scores where that is above 0; of more models than
    there are colours the last."""
    shown = list(models)[-len(SERIES):]
    figure, (axes,) = _figure(1, 1, WIDTH, 0.9 + len(rows) * (0.28 + 0.16 * len(shown)))
    for place, (row, scores) in enumerate(rows.items()):
        for number, (model, colour) in enumerate(zip(shown, SERIES, strict=False)):
            if one := scores.get(model):
                at = place + (number - (len(shown) - 1) / 2) * 0.7 / len(shown)
                axes.plot([one["low"], one["high"]], [at, at], color=colour, linewidth=1.6, alpha=0.55)
                axes.plot(one["value"], at, "o", color=colour, markersize=5)
                axes.annotate(f"{100 * one['value']:.1f}", (one["high"], at), xytext=(5, 0), va="center",
                              textcoords="offset points", fontsize=8, color=INK)
        if chances.get(row):
            axes.plot([chances[row]] * 2, [place - 0.42, place + 0.42], color=SOFT, linewidth=1, linestyle=(0, (3, 2)))
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.06)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    _legend(axes, list(zip(SERIES, shown, strict=False)))
    return _svg(figure, name, "Scores of every model with their intervals")


def _chance(axes: Axes, chance: float = CHANCE) -> None:
    """The line of who guesses, where that is ever right."""
    if not chance:
        return
    axes.axhline(chance, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("chance", (1, chance), xycoords=("axes fraction", "data"), xytext=(3, 0), va="center",
                  textcoords="offset points", fontsize=8, color=SOFT)


_TITLE: dict[str, Any] = {"loc": "left", "fontsize": 10, "color": INK}


def _legend(axes: Axes, entries: Any) -> None:
    from matplotlib.patches import Patch

    axes.figure.legend(handles=[Patch(color=colour, label=label) for colour, label in entries], frameon=False,
                       fontsize=9, labelcolor=INK, ncols=3, loc="outside upper right")


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average without the bias of its start (as in Adam, arXiv:1412.6980, section 3)."""
    keep = min(0.98, max(0.0, 1 - 30 / len(values)))
    average, smoothed = 0.0, []
    for number, value in enumerate(values, 1):
        average = keep * average + (1 - keep) * value
        smoothed.append(average / (1 - keep**number))
    return smoothed
