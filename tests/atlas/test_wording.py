from __future__ import annotations

import itertools
import re

import pytest

from headwater.atlas.language import CHINESE, ENGLISH, LANGUAGES, capital
from headwater.atlas.prose_en import PRONOUN_FITS
from headwater.atlas.randomness import Deck, stream
from headwater.atlas.world import ATTRIBUTES, SUBJECTS, build_world

KEYS = [f"{kind}.{name}" for kind, names in ATTRIBUTES.items() for name in names]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_every_attribute_has_enough_wordings(language):
    assert sorted(language.statements) == sorted(language.questions) == sorted(KEYS)
    for key in KEYS:
        assert len(set(language.statements[key])) >= 8
        wordings = language.questions[key]
        assert len(set(wordings.asks)) >= 5
        assert len(wordings.held_back) >= 2
        assert len(wordings.faqs) >= 2


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_statements_differ_in_word_order(language):
    for templates in language.statements.values():
        value_first = [text for text in templates if re.search(r"\{[va]\}.*\{s+\}", text)]
        assert 2 <= len(value_first) < len(templates)


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_wordings_of_dialogues_pages_and_the_held_back_ones_never_meet(language):
    for wordings in language.questions.values():
        groups = (wordings.asks, wordings.follows, wordings.faqs, wordings.held_back)
        for one, other in itertools.combinations(groups, 2):
            assert not set(one) & set(other)
    held_back = {text for wordings in language.questions.values() for text in wordings.held_back}
    others = {text for wordings in language.questions.values()
              for text in (*wordings.asks, *wordings.follows, *wordings.faqs)}
    assert not held_back & others


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_a_question_asks_for_one_attribute_of_its_kind(language):
    for kind in SUBJECTS.values():
        asked = [text for name in ATTRIBUTES[kind] for wordings in [language.questions[f"{kind}.{name}"]]
                 for text in (*wordings.asks, *wordings.held_back)]
        assert len(asked) == len(set(asked))


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_a_told_fact_holds_its_value_and_its_subject(language):
    world = build_world("tiny", 0)
    for fact in world.facts.values():
        entity = world.entities[fact.subject]
        for template in language.statements[fact.key]:
            sentence = language.tell(fact, entity, template)
            assert fact.text(language.code).lower() in sentence.lower()
            assert entity.name(language.code).lower() in sentence.lower()
            assert sentence[0] == capital(sentence)[0]
            assert "{" not in sentence


def test_pronouns_stand_only_where_the_subject_begins_the_sentence():
    world = build_world("tiny", 0)
    person = next(person for person in world.of_kind("person") if person.feminine)
    fact = world.fact(person, "birth_year")
    told = [ENGLISH.tell(fact, person, text, "She") for text in ENGLISH.statements[fact.key]]
    assert f"She was born in {fact.en}." in told
    assert f"Her birth year, long disputed, is {fact.en}." in told
    for template, sentence in zip(ENGLISH.statements[fact.key], told, strict=True):
        assert sentence.startswith(("She ", "Her ")) == template.startswith(PRONOUN_FITS)
    assert CHINESE.tell(fact, person, "{s}生于{v}。", "她") == f"她生于{fact.zh}。"


def test_articles_fit_their_noun():
    world = build_world("small", 0)
    template = "{s} was {a}."
    told = {ENGLISH.tell(world.fact(person, "occupation"), person, template).split(" was ")[1]
            for person in world.of_kind("person")}
    assert all(text.startswith("an ") == (text.split()[1][0] in "aeiou") for text in told)


def test_one_deck_serves_both_languages_without_mixing_them():
    world = build_world("tiny", 0)
    fact = next(iter(world.facts.values()))
    entity, deck = world.entities[fact.subject], Deck(stream("deck"))
    for _ in range(12):
        assert ENGLISH.told(fact, entity, deck).isascii()
        assert fact.zh in CHINESE.told(fact, entity, deck)


def test_a_deck_deals_every_item_before_it_repeats_one():
    deck = Deck(stream("deck"))
    items = tuple(range(7))
    dealt = [deck.draw("numbers", items) for _ in range(14)]
    assert sorted(dealt[:7]) == sorted(dealt[7:]) == list(items)
