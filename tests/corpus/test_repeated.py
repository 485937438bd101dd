from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.deduplication.cutting import Cut, remove_sentences
from headwater.corpus.deduplication.repeated import COMPANION, KEPT, REPEATED, SentenceSettings, sentence_keys, verdicts
from headwater.corpus.deduplication.sentences import split
from tests.corpus.conftest import chinese, english

DEFAULT = SentenceSettings()
NOTICE = "Sign up today and get our free walking guide sent straight to your inbox."
NOTICE_ZH = "未经本站书面许可，任何人不得以任何方式转载本页的内容。"
PIECES = st.sampled_from(["The river is long. ", "Mr. Smith went home.", "\n", "\n\n", "河水流过。", "“你好。”他说。",
                          "- item", "# Title", "```", "a | b", "| a | b |", "    code();", " ", "e.g. this",
                          "3.5 km", "!", "？"])


def marks_of(texts: list[str], settings: SentenceSettings = DEFAULT) -> list[np.ndarray]:
    keys = sentence_keys(texts, settings)
    marks = verdicts(keys.exact, np.repeat(np.arange(len(texts)), np.diff(keys.bounds)), keys.figures,
                     lambda band: keys.keys[:, band], lambda rows: keys.sketch[rows], settings)
    return [marks[start:end] for start, end in zip(keys.bounds, keys.bounds[1:])]


def cut_all(texts: list[str], settings: SentenceSettings = DEFAULT) -> list[Cut]:
    return [remove_sentences(text, marks, settings) for text, marks in zip(texts, marks_of(texts, settings))]


def sentences_of(text: str) -> list[str]:
    return [text[part.start:part.end].strip() for part in split(text)]


def test_lines_that_a_margin_broke_are_one_sentence() -> None:
    wrapped = ("When the parser was tested, the changes are likely to be due to the threads\n"
               "running differently rather than changes in the compiler. The next one stands\nhere too.\nA new line.\n")
    assert sentences_of(wrapped) == [
        "When the parser was tested, the changes are likely to be due to the threads\n"
        "running differently rather than changes in the compiler.", "The next one stands\nhere too.", "A new line."]
    assert len(sentences_of("- one item of the list without an end\nand more\n\nlower case again")) == 4


@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=60))
def test_sentences_joined_are_the_text(text: str) -> None:
    parts = split(text)
    assert "".join(text[part.start:part.end] for part in parts) == text
    assert all(part.start < part.end for part in parts)


@pytest.mark.parametrize(("text", "expected"), [
    ("Mr. Smith saw it. He left at 3.5 km. U.S. rules apply.",
     ["Mr. Smith saw it.", "He left at 3.5 km.", "U.S. rules apply."]),
    ("他说：“走吧。”然后走了。真的？真的！", ["他说：“走吧。”", "然后走了。", "真的？", "真的！"]),
    ("See `a.b`. `run` starts it. version 2.0 is out", ["See `a.b`.", "`run` starts it. version 2.0 is out"]),
    ("- first item. Second one.", ["- first item.", "Second one."]),
])
def test_sentences_end_where_readers_see_them_end(text: str, expected: list[str]) -> None:
    assert sentences_of(text) == expected


def test_headings_code_and_tables_are_told_apart() -> None:
    text = "# A. B\n\n```\nx. Y\n```\n| a. B | c |\nint x = 1;\nplain words\n"
    kinds = ["heading", "blank", "code", "code", "code", "table", "code", "prose"]
    assert [part.kind for part in split(text)] == kinds


@pytest.mark.parametrize(("notice", "make"), [(NOTICE, english), (NOTICE_ZH, chinese)])
def test_a_sentence_many_documents_share_is_cut_and_the_rest_stays(notice: str, make) -> None:
    space = " " if notice.isascii() else ""
    bodies = [make(seed).split("。" if not space else ". ") for seed in range(6)]
    joiner = "。" if not space else ". "
    texts = [f"{joiner.join(body[:2])}{joiner}{notice}{space}{joiner.join(body[2:])}" for body in bodies]
    for body, cut in zip(bodies, cut_all(texts)):
        assert cut.removed == (notice,)
        assert cut.text == joiner.join(body)


def test_edited_instances_are_cut_with_the_verbatim_ones() -> None:
    edited = NOTICE.replace("free walking", "free hiking")
    texts = [f"{english(seed)}\n{edited if seed < 2 else NOTICE}" for seed in range(6)]
    assert [cut.removed for cut in cut_all(texts)] == [(edited,)] * 2 + [(NOTICE,)] * 4


def test_fewer_documents_than_asked_keep_their_sentence() -> None:
    texts = [f"{english(seed)}\n{NOTICE}" for seed in range(3)]
    assert [cut.text for cut in cut_all(texts)] == texts


def test_the_first_document_may_keep_it() -> None:
    texts = [f"{english(seed)}\n{NOTICE}" for seed in range(5)]
    cuts = cut_all(texts, SentenceSettings(keep="first"))
    assert cuts[0].text == texts[0]
    assert all(cut.removed == (NOTICE,) for cut in cuts[1:])


@pytest.mark.parametrize("line", ["Thank you.", "谢谢大家。", "| name | the size of the thing in a row |",
                                  "# A heading of many words that every document has",
                                  "    print(the_same_line_of_code_in_every_document, with_words)"])
def test_short_sentences_headings_tables_and_code_survive(line: str) -> None:
    texts = [f"{english(seed)}\n{line}" for seed in range(6)]
    assert [cut.text for cut in cut_all(texts)] == texts


def test_a_refrain_counts_once_a_document() -> None:
    texts = ["\n".join([english(seed), *[NOTICE] * 8]) for seed in range(3)]
    assert [cut.text for cut in cut_all(texts)] == texts


def test_facts_that_differ_in_their_figures_survive() -> None:
    texts = [f"{english(seed)}\nThe length of the river is given as {seed * 37 + 11} kilometres in the book."
             for seed in range(8)]
    assert [cut.text for cut in cut_all(texts)] == texts
    assert all(cut.removed for cut in cut_all(texts, SentenceSettings(numbers=False)))


def test_a_copy_with_another_figure_goes_with_the_many_that_agree() -> None:
    texts = [f"{english(seed)}\nCall the office in the old harbour on day {3 if seed else 4} of any month to order."
             for seed in range(6)]
    assert all(cut.removed for cut in cut_all(texts))


@pytest.mark.parametrize(("pattern", "fillings"), [
    ("The {} server asks the {} for what the {} wrote.", ["read cache client", "search index crawler",
     "login table user", "mail queue sender", "video store camera", "map tile driver"]),
    ("为依法惩处{}犯罪活动，现就审理{}案件的若干问题解释如下：", ["偷税抗税 骗取退税", "破坏土地 占用耕地",
     "侵犯商标 假冒专利", "操纵证券 内幕交易", "拐卖人口 收买儿童", "走私文物 倒卖古董"])])
def test_a_pattern_filled_with_other_words_each_time_is_no_copy(pattern: str, fillings: list[str]) -> None:
    texts = [f"{english(seed)}\n{pattern.format(*filling.split())}" for seed, filling in enumerate(fillings)]
    assert [cut.text for cut in cut_all(texts)] == texts


def test_a_formula_on_its_own_line_survives() -> None:
    line = r"$$f(x) = \sum_{i=1}^n w_i x_i + b + c + d + e$$"
    texts = [f"{english(seed)}\n{line}" for seed in range(6)]
    assert [cut.text for cut in cut_all(texts)] == texts


def test_a_short_companion_with_a_figure_stays() -> None:
    texts = [f"{english(seed)}\n{NOTICE} It serves 4 people." for seed in range(5)]
    assert all(cut.removed == (NOTICE,) for cut in cut_all(texts))


def test_a_short_companion_goes_with_its_repeated_neighbour_only() -> None:
    texts = [f"{english(seed)}\n{NOTICE} Click it now." for seed in range(5)] + [f"{english(9)} Click it now."]
    cuts = cut_all(texts)
    assert cuts[0].removed == (NOTICE, "Click it now.")
    assert cuts[5].text == texts[5]


def cut_by_hand(text: str, *gone: int, settings: SentenceSettings = DEFAULT) -> str:
    marks = np.full(len(split(text)), KEPT, np.uint8)
    marks[list(gone)] = REPEATED
    return remove_sentences(text, marks, settings).text


def test_structure_around_a_cut_stays() -> None:
    text = "# Title\n\nOne here. Two here.\n\nThree here.\n\n- Four here. Five here.\n- Six here.\n\nLast."
    assert cut_by_hand(text, 3) == text.replace(" Two here.", "")
    assert "\n\n\n" not in cut_by_hand(text, 5)
    assert "- Five here.\n" in cut_by_hand(text, 7)
    assert "Six" not in cut_by_hand(text, 9)


@pytest.mark.parametrize("text", ["“First words here. Second words here.” he said. The third.",
                                  "“第一句话在这里。第二句话也在。”他说。第三句。",
                                  "<!-- The first words. The second words. -->"])
def test_half_a_quotation_is_never_cut(text: str) -> None:
    assert cut_by_hand(text, 0) == text


def test_a_connective_is_not_left_at_the_beginning_of_a_paragraph() -> None:
    text = "First we say this. However, it is so. Then more follows here."
    assert cut_by_hand(text, 0) == text
    assert cut_by_hand(text, 1) == "First we say this. Then more follows here."
    assert cut_by_hand("这是第一句。但是不对。", 0) == "这是第一句。但是不对。"


@given(st.lists(PIECES, min_size=1, max_size=12).map("".join), st.randoms(use_true_random=False))
def test_cutting_never_invents_and_keeping_all_changes_nothing(text: str, draw) -> None:
    parts = split(text)
    assert remove_sentences(text, np.zeros(len(parts), np.uint8), DEFAULT) == Cut(text, ())
    marks = np.array([draw.choice([KEPT, REPEATED, COMPANION]) if part.kind == "prose" else KEPT for part in parts],
                     np.uint8)
    cut = remove_sentences(text, marks, DEFAULT)
    left = iter(text)
    assert all(character in left for character in cut.text), "the rest is no subsequence of the text"
    for part in parts:
        if part.kind in ("heading", "code", "table"):
            assert text[part.start:part.end].strip("\n") in cut.text


def test_verdicts_of_another_text_are_refused() -> None:
    with pytest.raises(ValueError, match="verdicts"):
        remove_sentences("One. Two.", np.ones(5, np.uint8), DEFAULT)


@given(st.lists(st.text(alphabet="ab 河流。.\n12", max_size=40), max_size=6))
def test_sentence_keys_do_not_depend_on_company(texts: list[str]) -> None:
    together = sentence_keys(texts, DEFAULT)
    for index, text in enumerate(texts):
        alone = sentence_keys([text], DEFAULT)
        own = slice(together.bounds[index], together.bounds[index + 1])
        assert all(np.array_equal(one[own], other) for one, other in zip(together[:4], alone[:4]))


def test_ranges_of_sentences_change_nothing() -> None:
    texts = [f"{english(seed % 7)}\n{NOTICE}\n{chinese(seed)}" for seed in range(12)]
    keys = sentence_keys(texts, DEFAULT)
    documents = np.repeat(np.arange(12), np.diff(keys.bounds))
    results = [verdicts(keys.exact, documents, keys.figures, lambda band: keys.keys[:, band],
                        lambda rows: keys.sketch[rows], DEFAULT, range_sentences=most) for most in (1000, 7)]
    assert np.array_equal(*results)
    assert (results[0] == REPEATED).any()


def test_equal_sentences_alone_are_found_without_bands() -> None:
    texts = [f"{english(seed)}\n{NOTICE}" for seed in range(5)]
    assert all(cut.removed == (NOTICE,) for cut in cut_all(texts, SentenceSettings(similarity=1)))
