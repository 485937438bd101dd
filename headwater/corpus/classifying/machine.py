"""Text that a machine wrote, and text that a scanner misread: two small classifiers and their calibrated thresholds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from headwater.corpus.classifying.linear import Classifier
from headwater.settings import InputPath, Settings

_BLOCK = re.compile(r"```.*?(?:```|\Z)|\$\$.*?\$\$|\\\[.*?\\\]|<[^>\n]{1,200}>", re.DOTALL)
_FORMULA = re.compile(r"\$[^$\n]+\$|\\\(.*?\\\)|https?://\S+")
_LETTERS = 0.65
"""Share of letters among its visible characters from which a line is prose."""
Probability = Annotated[float, Field(gt=0, le=1)]


class MachineSettings(Settings):
    """Thresholds are per language; a text in a language that the classifier was not trained on is never flagged."""

    machine: Literal["machine"] | InputPath | None = "machine"
    """Classifier of machine-made text, shipped or the path of one trained by 'headwater corpus classifier'; null:
    off."""
    machine_thresholds: dict[str, Probability] = {"en": 0.9, "zh": 0.7}
    """Probability from which a text is machine-made, by language; one not named takes the classifier's own. These are
    stricter: at most one in a hundred of 242 real pages, most of them from before such machines, lies above."""
    ocr: Literal["ocr"] | InputPath | None = "ocr"
    """Classifier of scanning damage; null: off."""
    ocr_thresholds: dict[str, Probability] = {"en": 0.5, "zh": 0.99}
    """Probability from which a text is damaged, by language; chosen likewise."""


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
        self._machine = Classifier.load(self.settings.machine) if self.settings.machine else None
        self._ocr = Classifier.load(self.settings.ocr) if self.settings.ocr else None

    def machine_made(self, text: str, language: str) -> Score | None:
        """Whether a machine wrote the text; None when that classifier is off."""
        limit = self.settings.machine_thresholds.get(language)
        return score(self._machine, text, language, limit) if self._machine else None

    def ocr_damaged(self, text: str, language: str) -> Score | None:
        """Whether the text's prose was misread from a scan; None when that classifier is off."""
        limit = self.settings.ocr_thresholds.get(language)
        return score(self._ocr, prose(text), language, limit) if self._ocr else None


def score(classifier: Classifier, text: str, language: str, threshold: float | None = None) -> Score:
    """The classifier's verdict on one text, at the given threshold or the one calibrated for the language."""
    limit = classifier.threshold(language) if threshold is None else threshold
    probability = float(classifier.probability([text])[0])
    return Score(probability, limit, limit is not None and probability >= limit)


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
