"""Breaks when a text in an unknown language is flagged, a setting is ignored, or damage passes for clean text."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from headwater.corpus.classifying.linear import Classifier
from headwater.corpus.classifying.machine import MachineJudge, MachineSettings, machine_made, ocr_damaged, prose
from headwater.errors import InputError
from headwater.settings import Settings

PROSE = {"en": "We left the village before sunrise and walked along the river until the road turned north. Nobody "
               "spoke much, because the wind was cold and my brother had forgotten his gloves at the inn.",
         "zh": "我们天没亮就离开了村子，沿着河一直走到大路拐向北边的地方。谁都不怎么说话，因为风太冷，"
               "弟弟又把手套忘在了客栈里。"}
ANSWERS = {"en": "Certainly! Here are some key points to consider:\n\n1. It is important to note that regular exercise "
                 "plays a crucial role in maintaining overall well-being.\n2. Additionally, a balanced diet can help.",
           "zh": "以下是一些建议：\n\n1. 保持健康的饮食习惯，确保摄入足够的营养。\n2. 此外，定期进行体育锻炼"
                 "有助于提高身体素质。\n总之，健康的生活方式非常重要。"}


def damaged(text: str, language: str) -> str:
    """A bad scan: letters confused, specks, gaps."""
    rng = random.Random(1)
    swaps = {"e": "c", "l": "1", "o": "0", "h": "b", "m": "rn", "们": "门", "天": "夭", "没": "设", "大": "太",
             "人": "入", "的": "旳", "在": "任", "了": "丁", "河": "诃"}
    return "".join(swaps.get(one, one) + (rng.choice("~|^` ") if rng.random() < 0.12 else "") for one in text)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_damage_is_told_from_the_clean_text(language):
    assert not ocr_damaged(PROSE[language], language).flagged
    assert ocr_damaged(damaged(PROSE[language] * 3, language), language).flagged


def test_blanks_behind_chinese_punctuation_are_a_habit():
    assert not ocr_damaged(PROSE["zh"].replace("，", "， ").replace("。", "。 ") * 9, "zh").flagged


def test_code_and_formulas_are_no_damage():
    text = PROSE["en"] + "\n```c\nfor (i=0;i<n;++i) { a[i] ^= ~b[i]; }\n```\nSee $x_{i}^{2}$ in `table`.\n1 | 2 | ^ ~ 3"
    assert prose(text) == PROSE["en"] + "\nSee x in table."
    assert not ocr_damaged(text, "en").flagged


@pytest.mark.parametrize("language", ["en", "zh"])
def test_plain_prose_is_not_machine_made(language):
    verdict = machine_made(PROSE[language], language)
    assert 0 <= verdict.probability < verdict.threshold
    assert not verdict.flagged


def test_an_assistants_answer_scores_above_prose():
    for language, answer in ANSWERS.items():
        plain, answered = Classifier.load("machine").log_odds([PROSE[language], answer])
        assert answered > plain + 2


@pytest.mark.parametrize("language", ["de", "und", ""])
def test_a_language_without_a_threshold_is_never_flagged(language):
    for text in ("", "Der Fluß ist lang. " * 9, "1\n" * 50):
        verdict = machine_made(text, language)
        assert (verdict.threshold, verdict.flagged) == (None, False)


def test_a_threshold_of_ones_own_and_switches_hold():
    judge = MachineJudge(MachineSettings(ocr=None, machine_thresholds={"en": 1e-12}))
    assert judge.ocr_damaged(PROSE["en"], "en") is None
    assert judge.machine_made(PROSE["en"], "en").flagged
    assert issubclass(MachineSettings, Settings)


def test_ones_own_classifier_judges_by_its_own_threshold_and_for_its_own_task(tmp_path):
    shipped = Classifier.load("machine")
    mine = Classifier(shipped.model.model_copy(update={"name": "mine", "thresholds": {"en": 0.123}}), shipped.codes)
    mine.save(tmp_path / "mine.safetensors")
    judge = MachineJudge(MachineSettings(machine=tmp_path / "mine.safetensors"))
    assert judge.machine_made(PROSE["en"], "en").threshold == 0.123
    assert judge.ocr_damaged(PROSE["en"], "en").threshold == 0.5
    Classifier.load("toxicity").save(tmp_path / "toxicity.safetensors")
    with pytest.raises(InputError, match="tells 'toxicity', not 'ocr'"):
        MachineJudge(MachineSettings(ocr=tmp_path / "toxicity.safetensors"))


def test_nothing_is_nobodys_work():
    for text in ("", " \n\u3000"):
        for language in ("en", "zh"):
            assert not machine_made(text, language).flagged
            assert not ocr_damaged(text, language).flagged


def test_shipped_classifiers_hold_on_clean_pages_of_the_real_data(shared: Path):
    import json

    for language, name in (("en", "vue_docs"), ("zh", "tidb_docs")):
        lines = (shared / "data" / "text" / language / name / "docs.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"][:3000] for line in lines[:60]]
        for which in ("machine", "ocr"):
            one = Classifier.load(which)
            seen = [prose(text) for text in texts] if which == "ocr" else texts
            assert (one.probability(seen) >= one.threshold(language)).mean() <= 0.1
