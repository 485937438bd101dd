from __future__ import annotations

import pytest

from headwater.atlas.names import NameGiver
from headwater.atlas.values import BOOKS, book_title
from headwater.atlas.world import ATTRIBUTES, build_world


@pytest.fixture(scope="module", params=["tiny", "small"])
def world(request):
    return build_world(request.param, 0)


def test_small_has_the_promised_number_of_entities_and_facts():
    small = build_world("small", 0)
    assert 100 <= len(small.entities) <= 120
    assert 400 <= len(small.facts) <= 500


def test_every_attribute_of_every_entity_is_told_once(world):
    expected = [f"{entity.id}.{name}" for entity in world.described() for name in ATTRIBUTES[entity.kind]]
    assert sorted(world.facts) == sorted(expected)


def test_names_are_distinct_and_none_begins_another_in_either_language(world):
    english = [word for entity in world.entities.values() for word in entity.en.split() if word not in
               ("the", "Lake", "Mount")]
    assert len(set(english)) == len(english)
    assert not [(a, b) for a in english for b in english if a != b and b.startswith(a)]
    chinese = [entity.zh for entity in world.entities.values()]
    assert len(set(chinese)) == len(chinese)
    assert not [(a, b) for a in chinese for b in chinese if a != b and a in b]


def test_places_named_by_facts_exist_and_agree_on_the_region(world):
    for city in world.of_kind("city"):
        river = world.entities[world.fact(city, "river").value]
        assert river.kind == "river"
        assert river.region == city.region
    for person in world.of_kind("person"):
        city = world.entities[world.fact(person, "birth_city").value]
        assert city.kind == "city"
        assert int(world.fact(city, "founded").value) < int(world.fact(person, "birth_year").value)


def test_numbers_read_the_same_in_both_languages(world):
    for fact in world.facts.values():
        if isinstance(fact.value, int):
            assert fact.en.split()[0] == str(fact.value)
            assert fact.zh.rstrip("公里米年") == str(fact.value)


def test_a_fifth_is_never_asked_and_half_is_rephrased():
    small = build_world("small", 0)
    assert len(small.never_asked) / len(small.facts) == pytest.approx(0.2, abs=0.03)
    assert len(small.rephrased) / len(small.facts) == pytest.approx(0.5, abs=0.03)
    assert len(small.never_asked & small.rephrased) / len(small.never_asked) == pytest.approx(0.5, abs=0.1)


def test_book_titles_are_all_different():
    assert len({book_title(index) for index in range(BOOKS)}) == BOOKS


def test_a_name_depends_on_its_key_and_not_on_how_many_came_before():
    alone, later = NameGiver(5), NameGiver(5)
    for index in range(20):
        later.name(f"other-{index}")
    assert alone.name("key") == later.name("key")
