"""Breaks when innocent words are taken for abuse, abuse hides in a long page, or a quoted slur counts as an insult."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.classifying.insults import find_terms
from headwater.corpus.classifying.toxicity import ToxicityJudge, ToxicitySettings, passages, toxicity, weigh


def words(text: str) -> list[str]:
    return [term.word for term in find_terms(text)]


@pytest.mark.parametrize("text", [
    "固体废物处理与垃圾分类", "今日你好，节日你我同庆", "体操你做得很好", "三只母狗", "滚开的水", "应该死守",
    "精神病学与神经病理", "日本的操场上有鸡",
    "杂种优势", "去死皮", "过去死去的人", "变态反应", "Scunthorpe class assessment", "a shiitake dickens",
    "Essex bass",
])
def test_innocent_neighbours_are_left_alone(text):
    assert words(text) == []


@pytest.mark.parametrize(("text", "word"), [("你这个傻逼", "傻逼"), ("你是fuck中", "fuck"), ("真是废物", "废物"),
                                            ("YOU IDIOT!", "idiot"), ("(idiot)", "idiot"), ("滚远点", "滚远点")])
def test_abuse_is_found_beside_any_neighbour(text, word):
    assert words(text) == [word]


@given(st.text(max_size=60))
def test_terms_stand_where_they_say(text):
    for term in find_terms(f"{text} idiot {text}傻逼"):
        assert f"{text} idiot {text}傻逼"[term.start:term.end].lower() == term.word


@given(st.text(alphabet="ab 河水。.!\n；\"你", max_size=120))
def test_passages_are_in_order_and_lose_no_token(text):
    spans = passages(text)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    covered = "".join(text[start:end] for start, end in spans)
    assert sum(map(str.isalnum, covered)) == sum(map(str.isalnum, text))


def test_a_quoted_or_explained_word_weighs_little():
    for plain, quoted in (("You are an idiot.", "The word idiot comes from Greek."),
                          ("你这个白痴",
                          "“白痴”一词原为医学用语")):
        assert weigh(quoted, list(find_terms(quoted)))[0] <= weigh(plain, list(find_terms(plain)))[0] / 4


ARTICLE = {"en": "The river rises in the northern hills and flows past three towns before it reaches the sea. "
                 "Its water feeds the mills, and every spring the meadows along its banks are flooded. ",
           "zh": "这条河发源于北部的山地，流经三座城镇后注入大海。河水推动磨坊，每年春天两岸的草地都会被淹没。"}
INSULT = {"en": "You are a worthless idiot and a pathetic liar, shut up and go to hell.",
          "zh": "你这个没用的蠢货，赶紧闭嘴滚蛋吧，真是个废物。"}
EXPLAINED = {"en": "The slur “nigger” is a derogatory term whose history scholars have described at length. ",
             "zh": "“支那”一词后来带有贬义，学者对这个词语的历史有详细的研究。"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_insult_inside_a_long_article_is_the_worst_passage(language):
    text = ARTICLE[language] * 20 + "\n" + INSULT[language] + "\n" + ARTICLE[language] * 20
    verdict = toxicity(text, language)
    assert not verdict.toxic, "one insult on a long page is no page of abuse"
    assert toxicity(text, language, ToxicitySettings(share=0)).toxic
    assert INSULT[language][:10] in text[verdict.passages[0].start:verdict.passages[0].end]
    assert verdict.terms
    assert verdict.share < 0.1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_plain_articles_and_explained_slurs_are_no_abuse(language):
    judge = ToxicityJudge()
    assert not judge(ARTICLE[language] * 10, language).toxic
    assert not judge(ARTICLE[language] + EXPLAINED[language] + ARTICLE[language], language).toxic


def test_other_languages_and_empty_texts_are_judged_without_failing():
    judge = ToxicityJudge()
    assert not judge("", "en").toxic
    assert not judge("Der Fluss ist lang und tief.", "de").toxic
    assert judge("Du idiot! fuck you, asshole!", "de").toxic
