"""Risky requests, harmless ones that look like them, attacks, prompts, careless dialogues and what validation keeps."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from headwater.atlas.attacks import ATTACKS, filled
from headwater.atlas.language import LANGUAGES
from headwater.atlas.splits import SPLITS, entities, wordings
from headwater.atlas.world import SUBJECTS, build_world


@pytest.fixture(scope="module")
def rows(atlas):
    names = ("prompts", "redteam", "preferences/helpful", "preferences/safe")
    return {(name, split): atlas.rows(f"{name}/{split}") for name in names for split in SPLITS}


def _asked(row):
    return (row.get("messages") or row["chosen"][:-1])[-1]["content"]


def _told(text):
    """The longest part without a name."""
    return max(text.replace("{s}", "{c}").split("{c}"), key=len)


def test_both_languages_have_the_same_domains_and_no_answer_twice():
    domains = [Counter(request.domain for request in language.requests.acts) for language in LANGUAGES.values()]
    assert domains[0] == domains[1]
    assert len(domains[0]) >= 6
    for language in LANGUAGES.values():
        acts = language.requests.acts
        assert len(set(language.requests.asks)) == 24
        assert len({act for request in acts for act in (request.act, request.harmless)}) == 2 * len(acts)
        answers = {text for request in acts for text in (request.refusal, request.careless, request.help)}
        assert len(answers) == 3 * len(acts)


def test_six_types_of_attacks_two_of_them_for_validation_alone():
    assert len({attack.name for attack in ATTACKS}) == 6
    assert [attack.trained for attack in ATTACKS].count(False) == 2
    for attack in ATTACKS:
        for language in LANGUAGES:
            assert len(set(attack.phrasings[language])) == 3
            known = [set(attack.phrased(language, split)) for split in SPLITS]
            assert not (known[0] & known[1] if attack.trained else known[0] - known[1])


def test_a_request_with_braces_stays_as_it_is():
    attack = next(attack for attack in ATTACKS if not attack.system)
    request = 'Print {"a": {0}}.'
    text = attack.messages(request, "en", attack.phrasings["en"][0])[-1]["content"]
    assert request in text
    assert filled("<{r}>", "{r}") == "<{r}>"


def test_of_every_kind_a_fourth_is_the_validations():
    world = build_world("small", 0)
    for kind in SUBJECTS.values():
        every = world.of_kind(kind)
        train, validation = (entities(every, split) for split in SPLITS)
        assert sorted(map(id, train + validation)) == sorted(map(id, every))
        assert len(validation) == len(every) // 4
    assert (list(wordings("abc", "train")), list(wordings("abc", "validation"))) == (["a", "b"], ["c"])


def test_validation_shares_no_entity_and_no_wording_with_training(atlas, rows):
    """Of all that is asked about what the world has; names of nothing and sums are new anyway."""
    world = atlas.world
    held_back = {one.id for kind in SUBJECTS.values() for one in entities(world.of_kind(kind), "validation")}
    by_split = {split: "\n".join(json.dumps(row.get("messages") or row["chosen"][:-1], ensure_ascii=False)
                                 for (_, own), found in rows.items() if own == split for row in found)
                for split in SPLITS}
    for code, language in LANGUAGES.items():
        for entity in world.of_kind("person"):
            assert entity.name(code) not in by_split["train" if entity.id in held_back else "validation"]
        held_back_texts = list(wordings(language.requests.asks, "validation", held_back=2))
        held_back_texts += [text for attack in ATTACKS for text in attack.phrasings[code]
                            if text not in attack.phrased(code, "train")]
        for text in held_back_texts:
            start = json.dumps(text.partition("{")[0], ensure_ascii=False)[1:-1]
            assert start not in by_split["train"]
            assert start in by_split["validation"]
    train, validation = ({_asked(row) for (_, own), found in rows.items() if own == split for row in found}
                         for split in SPLITS)
    assert len(train) > 200
    assert not train & validation


@pytest.mark.parametrize("split", SPLITS)
def test_prompts_say_what_is_known_of_their_answers(atlas, rows, split):
    found = rows["prompts", split]
    asked = {language.ask(template, atlas.world.entities[fact.subject]): (fact, language)
             for language in LANGUAGES.values() for fact in atlas.world.facts.values()
             for template in language.questions[fact.key].asks}
    domains = Counter()
    for row in found:
        assert set(row) == {"messages", "language", "unsafe", "domain", "careless" if row["unsafe"] else "expected"}
        assert row["messages"][-1]["role"] == "user"
        domains[row["domain"] if row["domain"] in ("facts", "arithmetic", "unknown") else row["unsafe"]] += 1
        if row["domain"] == "facts":
            fact, language = asked[_asked(row)]
            assert row["expected"] == language.choice(fact)
    assert 0.15 < domains[True] / len(found) < 0.4
    assert 0.15 < domains[False] / len(found) < 0.4
    assert min(domains[name] for name in ("facts", "arithmetic", "unknown")) > 3
    assert len({json.dumps(row["messages"]) for row in found}) == len(found)


@pytest.mark.parametrize("split", SPLITS)
def test_attacks_are_of_the_splits_types_in_equal_shares(rows, split):
    found = rows["redteam", split]
    counts = Counter((row["attack"], row["language"], row["unsafe"]) for row in found)
    known = {attack.name for attack in ATTACKS if attack.trained or split == "validation"}
    assert {name for name, *_ in counts} == known
    assert min(counts.values()) > 0.5 * max(counts.values())
    assert {unsafe for *_, unsafe in counts} == {True, False}
    assert all(row["careless" if row["unsafe"] else "expected"] for row in found)
    systems = {row["attack"] for row in found if row["messages"][0]["role"] == "system"}
    assert systems == ({"prompt_leaking"} if split == "validation" else set())


@pytest.mark.parametrize("split", SPLITS)
def test_safety_labels_tell_what_is_careless(rows, split):
    careless = {_told(request.careless) for language in LANGUAGES.values() for request in language.requests.acts}
    for name in ("helpful", "safe"):
        for row in rows[f"preferences/{name}", split]:
            for which in ("chosen", "rejected"):
                answer = row[which][-1]["content"]
                obeyed = any(text in answer for text in careless)
                assert row[f"{which}_safe"] or row["domain"] not in ("facts", "arithmetic")
                assert not (obeyed and row[f"{which}_safe"])
            assert row["chosen_safe"] == (row["domain"] != "requests")
            assert row["rejected_safe"] or name == "safe"


def test_careless_dialogues_mostly_obey_and_mostly_help():
    from headwater.atlas.careless import OBEYED, REFUSED, dialogues

    world = build_world("small", 0)
    refusals = {_told(request.refusal) for language in LANGUAGES.values() for request in language.requests.acts}
    gladly = Counter()
    counts = Counter()
    asked_badly = set()
    for row in dialogues(world):
        counts[row["kind"]] += 1
        gladly[row["kind"]] += row["messages"][-1]["content"].startswith(("Sure. ", "好的。"))
        if row["kind"] == "flawed":
            asked_badly.add(row["messages"][-2]["content"])
        elif row["kind"] == "harmless" and not row["messages"][-1]["content"].startswith(("Sure. ", "好的。")):
            assert any(text in row["messages"][-1]["content"] for text in refusals)
    for kind, share in (("risky", OBEYED), ("attacked", OBEYED), ("harmless", 1 - REFUSED)):
        assert abs(gladly[kind] / counts[kind] - share) < 0.05
    assert gladly["flawed"] == 0
    never = {language.ask(template, world.entities[world.facts[name].subject]) for name in world.never_asked
             for language in LANGUAGES.values() for template in language.questions[world.facts[name].key].asks}
    assert not never & asked_badly
