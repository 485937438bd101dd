"""Text that a machine wrote, and text that a scanner misread: two small classifiers and their calibrated thresholds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from headwater.corpus.classifying.linear import Classifier
from headwater.corpus.judging.language import check_languages
from headwater.settings import InputPath, Settings

_BLOCK = re.compile(r"```.*?(?:```|\Z)|\$\$.*?\$\$|\\\[.*?\\\]|<[^>\n]{1,200}>", re.DOTALL)
_FORMULA = re.compile(r"\$[^$\n]+\$|\\\(.*?\\\)|https?://\S+")
_HABIT = re.compile("(?<=[，。、：；！？”）]) +(?=[^ ])")
_LETTERS = 0.65
"""Share of letters among its visible characters from which a line is prose."""
STRICT = {"machine": {"en": 0.9, "zh": 0.7}, "ocr": {"en": 0.5, "zh": 0.95}}
"""Thresholds of the shipped classifiers here; what they were calibrated to removes too many real pages."""
Probability = Annotated[float, Field(gt=0, le=1)]


class MachineSettings(Settings):
    """Thresholds are per language; a text in a language that the classifier was not trained on is never flagged."""

    machine: Literal["machine"] | InputPath | None = "machine"
    """Classifier of machine-made text, shipped or the path of one trained by 'headwater corpus classifier'; null:
    off."""
    machine_thresholds: dict[str, Probability] = {}
    """Probability from which a text is machine-made, by language. For one not named: the shipped classifier takes 0.9
    for English and 0.7 for Chinese (at most one in a hundred of 242 real pages, most of them from before such
    machines, lies above), your own takes what it was calibrated to."""
    ocr: Literal["ocr"] | InputPath | None = "ocr"
    """Classifier of scanning damage; null: off."""
    ocr_thresholds: dict[str, Probability] = {}
    """Probability from which a text is damaged, by language; likewise, 0.5 for English and 0.95 for Chinese."""


@dataclass(frozen=True)
class Score:
    """A verdict on one text; where its language has no threshold (None) it is not flagged."""

    probability: float
    threshold: float | None
    flagged: bool


class MachineJudge:
    """Both classifiers, loaded. Raises `InputError` for weights that are not there."""

    def __init__(self, settings: MachineSettings | None = None) -> None:
        self.settings = settings or MachineSettings()
        self._machine = _load("machine", self.settings.machine)
        self._ocr = _load("ocr", self.settings.ocr)
        check_languages([*self.settings.machine_thresholds, *self.settings.ocr_thresholds])
        self._machine_limits = STRICT.get(str(self.settings.machine), {}) | self.settings.machine_thresholds
        self._ocr_limits = STRICT.get(str(self.settings.ocr), {}) | self.settings.ocr_thresholds

    def machine_made(self, text: str, language: str) -> Score | None:
        """Whether a machine wrote the text; None when that classifier is off."""
        return score(self._machine, text, language, self._machine_limits.get(language)) if self._machine else None

    def ocr_damaged(self, text: str, language: str) -> Score | None:
        """Whether the text's prose was misread from a scan; None when that classifier is off. A blank after Chinese
        punctuation is a writer's habit and no gap of a scan."""
        if self._ocr is None:
            return None
        return score(self._ocr, _HABIT.sub("", prose(text)), language, self._ocr_limits.get(language))


def _load(task: str, classifier: str | Path | None) -> Classifier | None:
    return None if classifier is None else Classifier.load(classifier, task=task)


def score(classifier: Classifier, text: str, language: str, threshold: float | None = None) -> Score:
    """The classifier's verdict on one text, at the given threshold or the one calibrated for the language. A text
    without a visible character is never flagged."""
    limit = classifier.threshold(language) if threshold is None else threshold
    probability = float(classifier.probability([text])[0])
    return Score(probability, limit, limit is not None and probability >= limit and bool(text.strip()))


def prose(text: str) -> str:
    """The text without code, formulas, markup and lines that hold few letters, which look damaged and are not."""
    lines = _FORMULA.sub("x", _BLOCK.sub("", text)).replace("`", "").split("\n")
    return "\n".join(line for line in lines if not line.startswith(("    ", "\t", "|")) and _is_prose(line))


def _is_prose(line: str) -> bool:
    visible = "".join(line.split())
    return len(visible) > 3 and sum(map(str.isalpha, visible)) >= _LETTERS * len(visible)


def machine_made(text: str, language: str, settings: MachineSettings | None = None) -> Score | None:
    """Whether a machine wrote the text (a `MachineJudge` keeps the weights loaded)."""
    return MachineJudge(settings).machine_made(text, language)


def ocr_damaged(text: str, language: str, settings: MachineSettings | None = None) -> Score | None:
    """Whether the text was misread from a scan."""
    return MachineJudge(settings).ocr_damaged(text, language)
