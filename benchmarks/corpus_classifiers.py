"""The shipped text classifiers: what they reach on held-out text, and (`--train FOLDER`) how they were made.

Needs the real data in ../shared/data. agt2025 may not be learnt from by weights that ship: those are judged on it, and
beside them a classifier of the same kind trained on its other rows, to tell what the set allows.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import _labelled_texts as labelled_texts
import _scans
import numpy as np
from _harness import Case, arguments, report

from headwater.corpus.classifying.labelled import Columns, Labelled, read_labelled
from headwater.corpus.classifying.linear import SHIPPED, Classifier
from headwater.corpus.classifying.machine import prose
from headwater.corpus.classifying.ngrams import FeatureSettings
from headwater.corpus.classifying.regression import auc
from headwater.corpus.classifying.toxicity import ToxicityJudge
from headwater.corpus.classifying.training import TrainSettings, judge, train_classifier

LIMITS = {
    "machine": "Tells the style of assistants of 2022 to 2024 from people's prose. Short texts, texts asked to sound "
               "like a person, translations and encyclopaedic prose are judged badly; it is no proof of authorship.",
    "ocr": "Learnt from invented damage. Tables, formulas and code look damaged to it more often than prose does.",
    "toxicity": "Learnt from tweets (English), comments on race, region and gender (Chinese) and statements about "
                "groups. It inherits its annotators' judgement: dialect and reclaimed words are flagged too often, "
                "irony is missed.",
}

def settings_of(name: str, rows: Path) -> TrainSettings:
    """How each shipped classifier was trained."""
    clean = sorted({one for names in labelled_texts.CLEAN.values() for one in names})
    people = ["cold", "crosswoz", "hh_rlhf", "kdconv", "l2r", "self_instruct"] if name == "machine" else []
    common: dict[str, Any] = {"data": [rows], "name": name, "limits": LIMITS[name], "licences": labelled_texts.LICENCES,
                              "calibrate_on": [*clean, *people, "atlas"]}
    if name == "machine":
        return TrainSettings(**common, features=FeatureSettings(characters=4, words=2, bits=20), penalty=1e-6,
                             only_held=["agt2025", "agt2025_tuned"], emphasis={
                                 **dict.fromkeys(clean, 0.12), "l2r": 3, "hh_rlhf": 0.4, "oasst": 0.7, "cold": 0.7,
                                 "fast_detect_base": 0.4, "atlas": 0.2}, false_positives=0.005)
    if name == "ocr":
        return TrainSettings(**common, features=FeatureSettings(characters=3, words=1, bits=19), iterations=40,
                             false_positives=0.004, windows=1, short=300,
                             emphasis={"linux_command": 2, "based_cooking": 2})
    return TrainSettings(**common, features=FeatureSettings(characters=4, words=2, bits=19, lowercase=True),
                         penalty=1e-5, window=400, short=0, balance=0.5, false_positives=0.002)


def rows_of(name: str) -> Iterable[labelled_texts.Row]:
    """What each is trained and judged on."""
    if name == "machine":
        return [*labelled_texts.machine(), *labelled_texts.detection_benchmark()]
    if name == "ocr":
        return labelled_texts.damaged([*labelled_texts.clean(), *labelled_texts.atlas()],
                                      dict.fromkeys(("en", "zh"), _scans.LEARNT))
    return labelled_texts.toxicity()


def train(names: list[str], out: Path) -> None:
    """Write the weights and cards of these classifiers."""
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            rows = labelled_texts.write(Path(scratch) / "rows.jsonl", rows_of(name))
            train_classifier(settings_of(name, rows), Path(scratch) / name)
            out.mkdir(parents=True, exist_ok=True)
            for made in (Path(scratch) / name).iterdir():
                shutil.copy(made, out / made.name)
        print((out / f"{name}.md").read_text())


@cache
def held(name: str) -> list[Labelled]:
    """The rows that the shipped classifier neither learnt from nor was calibrated on."""
    with tempfile.TemporaryDirectory() as scratch:
        path = labelled_texts.write(Path(scratch) / "rows.jsonl", rows_of(name))
        settings = settings_of(name, path)
        return [row for row in dict.fromkeys(read_labelled(path, Columns()))
                if row.source in settings.only_held or row.draw() < settings.held_share / 2]


def judged(name: str) -> dict[str, Any]:
    """Figures of one shipped classifier on held-out rows and on clean text of sources it never saw."""
    classifier = Classifier.load(name)
    others = [Labelled(prose(row.text) if name == "ocr" else row.text, False, row.lang, row.group,
                       f"unseen_{row.source}") for row in labelled_texts.clean(labelled_texts.JUDGED)]
    return judge(classifier, held(name) + others)


def in_domain() -> dict[str, float]:
    """AUC per language on held-out rows of agt2025 after training on its other rows (never shipped)."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = labelled_texts.write(Path(scratch) / "rows.jsonl", labelled_texts.detection_benchmark())
        figures = train_classifier(TrainSettings(data=[rows], features=FeatureSettings(bits=20)), Path(scratch) / "out")
    return {language: values["auc"] for language, values in figures["languages"].items()}


def toxicity_step() -> list[Case]:
    """What the step makes of each held row as a document of its own, with its words, passages and shares."""
    step, cases = ToxicityJudge(), []
    rows = held("toxicity")
    for source in sorted({row.source for row in rows if row.label}):
        labels = np.array([row.label for row in rows if row.source == source], np.bool_)
        verdicts = [step(row.text, row.language) for row in rows if row.source == source]
        toxic = np.array([verdict.toxic for verdict in verdicts])
        for metric, value in (("auc", auc(np.array([verdict.score for verdict in verdicts]), labels)),
                              ("recall", toxic[labels].mean()), ("false_positives", toxic[~labels].mean())):
            cases.append(Case(f"toxicity step {source}", metric, float(value), "none"))
    return cases


def unseen_damage() -> dict[str, float]:
    """AUC per language and kind of damage that training never showed."""
    classifier = Classifier.load("ocr")
    rows = [row for row in held("ocr") if not row.label][:1200]
    figures = {}
    for kind, damage in _scans.UNSEEN.items():
        for language in ("en", "zh"):
            texts = [row.text for row in rows if row.language == language]
            broken = list(labelled_texts.damaged([labelled_texts.Row(text, 0, language, text, "") for text in texts],
                                            {language: [damage]}))
            scores = classifier.probability([row.text for row in broken])
            figures[f"{kind}.{language}"] = auc(scores, np.array([row.label for row in broken], np.bool_))
    return figures


def documents_per_second(classifier: Classifier, texts: list[str]) -> float:
    """Of 2 kB each, per CPU second."""
    start = time.process_time()
    classifier.probability(texts)
    return len(texts) / (time.process_time() - start)


def main() -> None:
    options = arguments(__doc__, ("--train", {"type": Path, "metavar": "FOLDER", "help": "write the weights there"}),
                        ("--only", {"nargs": "+", "choices": SHIPPED, "default": list(SHIPPED)}))
    if not labelled_texts.DATA.is_dir():
        report("corpus_classifiers", [Case(name, "auc", None, "the real data (../shared) is not here")
                                      for name in options.only], ceilings={})
        return
    if options.train:
        train(options.only, options.train)
        return
    cases: list[Case] = []
    for name in options.only:
        figures = judged(name)
        for kind in ("languages", "sources"):
            for key, values in figures[kind].items():
                cases += [Case(f"{name} {key}", metric, values[metric], "none") for metric in
                          ("auc", "recall", "false_positives") if metric in values]
    if "toxicity" in options.only:
        cases += toxicity_step()
    extra: dict[str, Callable[[], dict[str, float]]] = {"machine": in_domain, "ocr": unseen_damage}
    for name in options.only if options.full else []:
        cases += [Case(f"{name} {extra[name].__name__} {key}", "auc", value, "none")
                  for key, value in (extra[name]().items() if name in extra else [])]
    for language, sources in labelled_texts.CLEAN.items():
        text = "".join(row.text for row in labelled_texts.clean({language: sources[:2]}))
        size = 2000 if language == "en" else 700
        texts = [text[at:at + size] for at in range(0, len(text) - size, size)][:400]
        cases += [Case(f"{name} {language}", "2 kB documents per CPU second",
                       documents_per_second(Classifier.load(name), texts), "none") for name in options.only]
    report("corpus_classifiers", cases, ceilings={})


if __name__ == "__main__":
    main()
