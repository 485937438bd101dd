"""Training of a text classifier on labelled rows: split, fit, calibration, and a card that says what it reaches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from headwater.artifacts import atomic_folder, write_json, write_text
from headwater.corpus.classifying.labelled import Columns, Labelled, read_labelled
from headwater.corpus.classifying.linear import Classifier, Model, cut
from headwater.corpus.classifying.ngrams import FeatureSettings
from headwater.corpus.classifying.regression import auc, fit, sparse_rows
from headwater.errors import InputError
from headwater.settings import InputPath, Settings

Share = Annotated[float, Field(gt=0, lt=1)]
FEWEST = 20
"""Rows of each class, in training and held out, below which a figure would mean nothing."""


class TrainSettings(Settings):
    """The labelled rows, what the classifier sees of them, and how it is calibrated."""

    data: Annotated[list[InputPath], Field(min_length=1)]
    """JSONL, CSV or Parquet files of labelled texts."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]+$")] = "classifier"
    """What the positive class is called; the files are named after it."""
    columns: Columns = Columns()
    """Names of the columns."""
    features: FeatureSettings = FeatureSettings()
    """The n-grams."""
    window: Annotated[int, Field(ge=0)] = 1000
    """Longer texts are cut into windows of so many characters; 0 never cuts."""
    windows: Annotated[int, Field(ge=1)] = 3
    """Windows that one text gives at most for training."""
    short: Annotated[int, Field(ge=0)] = 150
    """The first so many characters of each window are learnt from too, so that short texts are judged well; 0: not."""
    penalty: Annotated[float, Field(gt=0)] = 1e-5
    """L2 regularisation, per mean log-loss."""
    iterations: Annotated[int, Field(ge=1, le=1000)] = 60
    """Steps of L-BFGS."""
    balance: Annotated[float, Field(ge=0, le=1)] = 1.0
    """0 weighs every row alike, 1 every source alike (within its class and language, which always weigh alike)."""
    held_share: Share = 0.3
    """Share of the groups held out by hash: half of it calibrates the threshold, half gives the figures."""
    emphasis: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Further weight of some sources; 1 for those not named."""
    false_positives: Share = 0.01
    """Share of calibration rows of the negative class above the threshold."""
    calibrate_on: list[str] = []
    """Sources whose negative rows set the threshold; none named: all."""
    only_held: list[str] = []
    """Sources that are judged and never learnt from."""
    licences: dict[str, str] = {}
    """Licence and origin of each source, for the card."""
    limits: str = ""
    """What the classifier should not be used for, for the card."""


def train_classifier(settings: TrainSettings, out: Path) -> dict[str, Any]:
    """Write `NAME.safetensors`, `NAME.json` (the figures) and `NAME.md` (the card) into the folder `out`.

    Deterministic. Returns the figures: per language rows, threshold and held-out AUC, per source AUC or the share
    of rows above the threshold. Raises `InputError` for wrong columns or labels and when a class is (nearly) missing.
    """
    rows = list(dict.fromkeys(row for path in settings.data for row in read_labelled(path, settings.columns)))
    train, calibration, held = _split(rows, settings)
    for part, what in ((train, "training"), (calibration, "calibration"), (held, "held-out")):
        _require_both(part, what, settings)
    classifier = _fitted(train, settings)
    classifier = _calibrated(classifier, calibration, settings)
    figures = {"name": settings.name, "rows": {"training": len(train), "calibration": len(calibration),
               "held": len(held)}, **judge(classifier, held, learnt=_origins(train)),
               "settings": settings.model_dump(mode="json", exclude={"data", "licences", "limits"})}
    with atomic_folder(out) as folder:
        classifier.save(folder / f"{settings.name}.safetensors")
        write_json(folder / f"{settings.name}.json", figures)
        write_text(folder / f"{settings.name}.md", card(figures, settings))
    return figures


def judge(classifier: Classifier, rows: Sequence[Labelled], learnt: Counter[str] | None = None) -> dict[str, Any]:
    """Per language and per source: rows, AUC where both classes are there, and the shares of positives found and of
    negatives wrongly taken for positive at the calibrated threshold."""
    scores = classifier.probability([row.text for row in rows])
    labels = np.array([row.label for row in rows], np.bool_)
    flagged = np.array([score >= (classifier.threshold(row.language) or np.inf) for score, row in zip(scores, rows)])

    def figures(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        own, found, truth = scores[chosen], flagged[chosen], labels[chosen]
        values: dict[str, Any] = {"held": int(chosen.sum())}
        if truth.any() and not truth.all():
            values["auc"] = round(auc(own, truth), 4)
        if truth.any():
            values["recall"] = round(float(found[truth].mean()), 4)
        if not truth.all():
            values["false_positives"] = round(float(found[~truth].mean()), 4)
        return values

    languages, origins = [row.language for row in rows], [_origin(row) for row in rows]
    return {"languages": {one: {"threshold": classifier.threshold(one), **figures(np.array(languages) == one)}
                          for one in sorted(set(languages))},
            "sources": {one: {"learnt": (learnt or Counter())[one], **figures(np.array(origins) == one)}
                        for one in sorted(set(origins))}}


def _split(rows: list[Labelled], settings: TrainSettings) -> tuple[list[Labelled], list[Labelled], list[Labelled]]:
    train: list[Labelled] = []
    calibration: list[Labelled] = []
    held: list[Labelled] = []
    for row in rows:
        draw = row.draw()
        if row.source in settings.only_held or draw < settings.held_share / 2:
            held.append(row)
        else:
            (calibration if draw < settings.held_share else train).append(row)
    return train, calibration, held


def _require_both(rows: list[Labelled], what: str, settings: TrainSettings) -> None:
    counts = Counter(row.label for row in rows)
    if min(counts[True], counts[False]) < FEWEST:
        raise InputError(f"the {what} rows hold {counts[True]} positive and {counts[False]} negative texts, expected "
                         f"at least {FEWEST} of each", where=", ".join(map(str, settings.data)),
                         fix="give more labelled texts of both classes, or correct the label column")


def _fitted(rows: list[Labelled], settings: TrainSettings) -> Classifier:
    pieces = [(piece, row) for row in rows for piece in _pieces(row.text, settings)]
    labels = np.array([row.label for _, row in pieces], np.bool_)
    matrix = sparse_rows([piece for piece, _ in pieces], settings.features)
    importance = _importance([row for _, row in pieces], settings)
    weights, bias = fit(matrix, labels, importance, width=1 << settings.features.bits, penalty=settings.penalty,
                        iterations=settings.iterations)
    model = Model(name=settings.name, features=settings.features, window=settings.window, bias=bias, scale=1.0,
                  thresholds={})
    return Classifier.from_weights(model, weights)


def _pieces(text: str, settings: TrainSettings) -> list[str]:
    windows = cut(text, settings.window)
    step = max(1, len(windows) // settings.windows)
    chosen = windows[::step][:settings.windows]
    return chosen + [window[:settings.short] for window in chosen if 0 < settings.short < len(window) * 2 // 3]


def _importance(rows: list[Labelled], settings: TrainSettings) -> NDArray[np.float64]:
    """Weight of each row: languages and classes weigh alike, sources by emphasis * count^(1 - balance)."""
    sources = Counter((row.language, row.label, row.source) for row in rows)
    weights = np.array([settings.emphasis.get(row.source, 1.0) * sources[row.language, row.label, row.source]
                        ** -settings.balance for row in rows])
    classes = np.array([f"{row.language} {row.label}" for row in rows])
    for one in set(classes):
        chosen = classes == one
        weights[chosen] *= len(rows) / len(set(classes)) / max(weights[chosen].sum(), 1e-12)
    return weights


def _calibrated(classifier: Classifier, rows: list[Labelled], settings: TrainSettings) -> Classifier:
    clean = [row for row in rows if not row.label and (not settings.calibrate_on
                                                       or row.source in settings.calibrate_on)]
    scores = classifier.probability([row.text for row in clean])
    thresholds = {}
    for language in sorted({row.language for row in rows if row.label}):
        own = scores[[row.language == language for row in clean]]
        if len(own) >= FEWEST:
            thresholds[language] = float(np.quantile(own, 1 - settings.false_positives, method="higher"))
    model = classifier.model.model_copy(update={"thresholds": thresholds})
    return Classifier(model, classifier.codes)


def _origin(row: Labelled) -> str:
    return f"{row.source}.{row.language}"


def _origins(rows: list[Labelled]) -> Counter[str]:
    return Counter(map(_origin, rows))


def card(figures: dict[str, Any], settings: TrainSettings) -> str:
    """The model card as Markdown."""
    percent = f"{100 * settings.false_positives:g} %"
    lines = [f"# Classifier `{settings.name}`", "",
             "Logistic regression on hashed character and word n-grams. Held-out rows were drawn by the hash of their "
             "group before training; half of them set the threshold, the other half gave the figures below.", "",
             f"Threshold per language: {percent} of the negative calibration rows "
             f"({', '.join(settings.calibrate_on) or 'all sources'}) lie above it.", "",
             "| language | held rows | AUC | threshold | found | wrongly flagged |", "|---|---|---|---|---|---|"]
    lines += [f"| {name} | {_cells(values, 'held', 'auc', 'threshold', 'recall', 'false_positives')} |"
              for name, values in figures["languages"].items()]
    lines += ["", "| source.language | learnt | held | AUC | found | wrongly flagged | licence |",
              "|---|---|---|---|---|---|---|"]
    lines += [f"| {name} | {_cells(values, 'learnt', 'held', 'auc', 'recall', 'false_positives')} | "
              f"{settings.licences.get(name.rpartition('.')[0], 'not stated')} |"
              for name, values in figures["sources"].items()]
    return "\n".join([*lines, "", "## Limits", "", settings.limits or "Not stated.", ""])


def _cells(values: dict[str, Any], *names: str) -> str:
    shown = [values.get(name) for name in names]
    return " | ".join("" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
                      for value in shown)


def train_and_tell(out: Path, settings: TrainSettings) -> None:
    """`train_classifier`, then its figures on standard output."""
    train_classifier(settings, out)
    print(f"{out / settings.name}.safetensors\n")
    print((out / f"{settings.name}.md").read_text("utf-8"))
