from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.decontamination.benchmarks import BenchmarkSource, Question
from headwater.corpus.decontamination.contamination import ContaminationSettings, Leak, LeakIndex, remove_leaks
from headwater.corpus.judging.length import tokens
from headwater.errors import InputError
from tests.corpus.conftest import chinese, english

ENGLISH = Question("b", "en", 0, "A merchant buys 12 lanterns for 3 coins each and sells them all at the harbour "
                   "for 5 coins each; how many coins has he won in the end?", ("20", "24 coins", "36"), "24 coins")
CHINESE = Question("b", "zh", 0, "一位商人以每盏3枚铜钱的价格买进12盏灯笼，"
                   "又以每盏5枚的价格全部卖出，他一共赚了多少枚铜钱？",
                   ("20枚", "24枚", "36枚", "60枚"), "24枚")
SHORT = Question("b", "short", 0, "What is a lantern clock?", ("a device", "a lamp"), "a device")
STEM = Question("b", "short", 1, "灯笼的骨架多用", ("竹篾", "黄铜"), "竹篾")
SUM = Question("b", "sum", 0, "((4 + 5 - 7 + 9) * (-1 - -4 + -7)) =", (), "-44")
QUESTIONS = [ENGLISH, CHINESE, SHORT, STEM, SUM]


def settings(**changed: Any) -> ContaminationSettings:
    return ContaminationSettings(benchmarks=(BenchmarkSource(path=Path("not read")),), **changed)


INDEX = LeakIndex.of_questions(QUESTIONS, settings())


def files(text: str, index: LeakIndex = INDEX) -> list[str]:
    return [f"{leak.file}#{leak.row}" for leak in index.leaks(text)]


def asked(question: Question, label: str = "{}. {}", separator: str = "\n") -> str:
    choices = [label.format(letter, option) for letter, option in zip("ABCD", question.options, strict=False)]
    return separator.join([question.text, *choices])


@given(st.sampled_from(QUESTIONS), st.integers(0, 99), st.integers(0, 9))
def test_a_question_is_found_wherever_it_stands(question: Question, seed: int, place: int) -> None:
    lines = [english(seed), chinese(seed), english(seed + 1)] * 3
    text = "\n".join([*lines[:place], asked(question), *lines[place:]])
    (leak,) = INDEX.leaks(text)
    assert (leak.benchmark, leak.file, leak.row) == (question.benchmark, question.file, question.row)
    assert tokens(text[leak.start:leak.end])[0] == tokens(question.text)[0]


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("lantern 灯笼。\n,."), max_size=80))
def test_a_document_that_shares_no_ngram_is_clean(text: str) -> None:
    assert INDEX.leaks(text) == []


@pytest.mark.parametrize("question", [ENGLISH, CHINESE], ids=["en", "zh"])
@pytest.mark.parametrize("change", [
    str.upper, lambda text: text.replace(" ", "  "), lambda text: text.replace(" ", "\n"),
    lambda text: f"So: “{text}”", lambda text: text.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}),
    lambda text: "".join(mark for mark in text if mark not in ",;?，？")],
    ids=["case", "spaces", "wrapped", "quoted", "width", "marks"])
def test_case_width_spacing_and_punctuation_do_not_hide_a_question(question: Question, change: Any) -> None:
    assert files(change(asked(question))) == [f"{question.file}#0"]


@pytest.mark.parametrize("label", ["{}. {}", "({}) {}", "{}、{}", "{}：{}", "（{}）{}"])
@pytest.mark.parametrize("separator", ["\n", " "])
def test_labels_of_choices_do_not_hide_a_short_question_given_with_its_choices(label: str, separator: str) -> None:
    question = Question("b", "f", 0, "Name it:", ("the old lantern maker", "a river boat", "the harbour"), "")
    index = LeakIndex.of_questions([question], settings())
    assert files("Before.\n" + asked(question, label, separator) + "\nAfter.", index) == ["f#0"]


def test_one_more_token_makes_a_thirteen_gram() -> None:
    # SPEC row 19: with GPT-3's rule a shared 13-gram is a leak, a shared 12-gram is none.
    index = LeakIndex.of_questions([ENGLISH], settings(words=13, share=0))
    words = ENGLISH.text.split()
    assert files(f"x {' '.join(words[4:17])} y", index) == ["en#0"]
    assert files(f"x {' '.join(words[4:16])} y", index) == []


def test_a_shared_part_is_a_leak_from_the_share_on() -> None:
    words = ENGLISH.text.split()
    grams = len(words) - 8 + 1
    needed = -(-grams * 6 // 10)
    assert files(" ".join(words[:needed + 7])) == ["en#0"]
    assert files(" ".join(words[:needed + 6])) == []


def test_the_parts_of_a_question_count_only_near_each_other() -> None:
    words = ENGLISH.text.split()
    halves = " ".join(words[:14]), " ".join(words[14:])
    assert files(" and ".join(halves)) == ["en#0"]
    assert files(english(1, 400).join(halves)) == []


def test_a_short_question_needs_its_question_mark_and_a_stem_any_mark_behind_it() -> None:
    assert files("He asked: what is a lantern clock?") == ["short#0"]
    assert files("What is a lantern clock made of") == []
    assert files("He knew what is a lantern clock. Then he left.") == []
    assert files("灯笼的骨架多用____。") == ["short#1"]
    assert files("灯笼的骨架多用竹篾扎成，外面糊纸。") == []


def test_a_short_question_begins_with_a_token() -> None:
    assert files("Somewhat is a lantern clock?") == []


def test_sums_are_told_apart_by_their_signs() -> None:
    assert files("Work out ((4 + 5 - 7 + 9) * (-1 - -4 + -7)) = now.\n") == []
    assert files("Work out ((4+5-7+9)*(-1 - -4 + -7)) =\n") == ["sum#0"]
    assert files("Work out ((4+5+7+9)*(-1 - -4 + -7)) =\n") == []


def test_a_short_text_that_several_questions_share_names_none_of_them() -> None:
    index = LeakIndex.of_questions([Question("b", "f", row, "下列说法正确的是", (str(row),)) for row in range(2)],
                                   settings())
    assert files("下列说法正确的是？", index) == []
    assert index.unchecked == 2


def test_phrases_of_many_questions_prove_nothing() -> None:
    stem = "which of the following statements about the old harbour town is true"
    rows = [Question("b", "f", row, f"{stem} {english(row, 16)}") for row in range(20)]
    index = LeakIndex.of_questions(rows, settings())
    assert files(f"I asked {stem} and nobody knew.", index) == []
    assert files(rows[7].text, index) == ["f#7"]


def test_copies_of_a_question_are_all_found_and_do_not_make_it_common() -> None:
    rows = [Question("b", "f", row, ENGLISH.text) for row in range(20)]
    assert len(files(ENGLISH.text, LeakIndex.of_questions(rows, settings()))) == 20


def test_what_is_too_short_is_counted() -> None:
    index = LeakIndex.of_questions([ENGLISH, Question("b", "f", 0, "Why?"), Question("b", "f", 1, "？")], settings())
    assert index.unchecked == 2


@pytest.mark.parametrize("questions", [QUESTIONS, [SHORT], [ENGLISH], [Question("b", "f", 0, "Why?")]])
def test_a_saved_index_finds_the_same(tmp_path: Path, questions: list[Question]) -> None:
    built = LeakIndex.of_questions(questions, settings())
    built.save(tmp_path / "index")
    loaded = LeakIndex.load(tmp_path / "index")
    text = "\n".join(asked(question) for question in QUESTIONS)
    assert loaded.leaks(text) == built.leaks(text)
    assert (loaded.unchecked, loaded.nbytes, loaded.settings) == (built.unchecked, built.nbytes, built.settings)


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="build it again"):
        LeakIndex.load(tmp_path)
    INDEX.save(tmp_path)
    (tmp_path / "posts.npy").write_bytes(b"damaged")
    with pytest.raises(InputError, match="build it again"):
        LeakIndex.load(tmp_path)


def test_an_index_is_built_from_files(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(f'"{ENGLISH.text}",1,2,3,4,A\n')
    index = LeakIndex.build(ContaminationSettings(benchmarks=(BenchmarkSource(path=tmp_path, name="mine"),)))
    assert [leak.question for leak in index.leaks(ENGLISH.text)] == ["mine/q.csv#1"]


def test_a_cut_takes_the_margin_and_whole_sentences() -> None:
    text = f"Kept first. Near the leak. {ENGLISH.text} The answer is 24. Kept last."
    (leak,) = INDEX.leaks(text)
    assert remove_leaks(text, [leak], settings(margin=5)) == "Kept first.\nKept last."
    assert remove_leaks(text, [leak], settings(margin=500)) == ""


def test_a_cut_of_chinese_ends_at_chinese_marks() -> None:
    text = f"留下这一句。{CHINESE.text}答案是二十四枚。也留下这一句。"
    assert remove_leaks(text, INDEX.leaks(text), settings(margin=0)) == "留下这一句。\n答案是二十四枚。也留下这一句。"
    assert remove_leaks(text, INDEX.leaks(text), settings(margin=4)) == "也留下这一句。"


def test_a_document_cut_into_too_many_pieces_is_dropped() -> None:
    text = "".join(f"Sentence {number}. Leak. " for number in range(11))
    leaks = [Leak("b", "f", 0, 1.0, at, at + 4) for at in range(len(text)) if text.startswith("Leak", at)]
    assert remove_leaks(text, leaks, settings(margin=0)) == ""
    assert remove_leaks(text, leaks, settings(margin=0, pieces=11)).count("Sentence") == 11


@given(st.integers(0, 99), st.integers(0, 300))
def test_nothing_is_found_in_what_a_cut_leaves(seed: int, margin: int) -> None:
    lines = [english(seed), chinese(seed), *map(asked, QUESTIONS)]
    random.Random(seed).shuffle(lines)
    text = "\n".join(lines)
    assert INDEX.leaks(remove_leaks(text, INDEX.leaks(text), settings(margin=margin))) == []
