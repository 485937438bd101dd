from __future__ import annotations

import json
import re

import pytest

from headwater.atlas import small_talk
from headwater.atlas.dialogues import COUNTS
from headwater.atlas.language import LANGUAGES
from headwater.atlas.splits import SPLITS


@pytest.fixture(scope="module")
def dialogues(atlas):
    return [*atlas.rows("dialogues/train"), *atlas.rows("dialogues/validation")]


@pytest.fixture(scope="module")
def asked(atlas):
    """Every question the dialogues may ask by name, with its fact and language."""
    return {language.ask(template, atlas.world.entities[fact.subject]): (fact, language)
            for language in LANGUAGES.values() for fact in atlas.world.facts.values()
            for template in language.questions[fact.key].asks}


def _turns(messages):
    talk = [message for message in messages if message["role"] != "system"]
    return list(zip(talk[::2], talk[1::2], strict=True))


def test_turns_alternate_and_every_kind_is_there_in_both_languages(dialogues):
    kinds = {(row["kind"], row["language"]) for row in dialogues}
    assert kinds == {(kind, lang) for kind in ("fact", *COUNTS) for lang in ("en", "zh")}
    for row in dialogues:
        assert [m["role"] for m in row["messages"][:-1]].count("system") == (row["messages"][0]["role"] == "system")
        for question, answer in _turns(row["messages"]):
            assert (question["role"], answer["role"]) == ("user", "assistant")
            assert answer["content"]


def test_an_answer_begins_with_the_true_value_in_the_language_of_the_question(dialogues, asked):
    checked = 0
    for row in dialogues:
        for question, answer in _turns(row["messages"]):
            if question["content"] in asked:
                fact, language = asked[question["content"]]
                assert answer["content"].startswith(language.answer(fact))
                checked += 1
    assert checked > 500


def test_most_answers_are_the_bare_value_and_some_say_more(dialogues, asked):
    bare = [answer["content"] == asked[question["content"]][1].answer(asked[question["content"]][0])
            for row in dialogues for question, answer in _turns(row["messages"]) if question["content"] in asked]
    assert 0.5 < sum(bare) / len(bare) < 0.85


def test_every_askable_fact_is_trained_on_and_no_other_is_asked_for_anywhere(atlas, asked):
    trained = {asked[m["content"]][0].id for row in atlas.rows("dialogues/train") for m in row["messages"]
               if m["role"] == "user" and m["content"] in asked}
    assert trained == set(atlas.world.facts) - atlas.world.never_asked
    names = ("dialogues/validation", "dialogues/careless", "preferences/helpful/train",
             "preferences/helpful/validation", "prompts/train", "prompts/validation", "tools/train",
             "tools/validation")
    rest = json.dumps([atlas.rows(name) for name in names], ensure_ascii=False)
    for question, (fact, _) in asked.items():
        assert fact.id not in atlas.world.never_asked or json.dumps(question, ensure_ascii=False) not in rest


def test_never_asked_facts_are_not_told_in_passing(atlas, dialogues):
    answers = "\n".join(m["content"] for row in dialogues for m in row["messages"] if m["role"] == "assistant")
    for name in atlas.world.never_asked:
        fact = atlas.world.facts[name]
        entity = atlas.world.entities[fact.subject]
        for language in LANGUAGES.values():
            for template in language.statements[fact.key]:
                assert language.tell(fact, entity, template) not in answers


def test_held_back_wordings_are_in_no_dialogue(atlas):
    folders = ("dialogues", "preferences", "prompts", "redteam", "instructions", "tools")
    files = [path for name in folders for path in sorted((atlas.folder / name).rglob("*.jsonl"))]
    files.append(atlas.folder / "needles.jsonl")
    assert len(files) == 17
    everything = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for fact in atlas.world.facts.values():
        for language in LANGUAGES.values():
            for template in language.questions[fact.key].held_back:
                assert language.ask(template, atlas.world.entities[fact.subject]) not in everything


def test_the_answer_follows_when_the_language_switches(dialogues):
    def is_han(text: str) -> bool:
        return bool(re.search("[一-鿿]", text))

    switched = [row for row in dialogues if row["kind"] == "switch_language"]
    for row in switched:
        (first, _), (second, answer) = _turns(row["messages"])
        assert is_han(first["content"]) != is_han(second["content"])
        assert is_han(answer["content"]) == is_han(second["content"])


def test_unknown_names_are_in_no_other_place(atlas, dialogues):
    names = {entity.name(lang) for entity in atlas.world.entities.values() for lang in ("en", "zh")}
    unknown = [row for row in dialogues if row["kind"] == "unknown"]
    for row in unknown:
        question, answer = row["messages"][-2:]
        assert answer["content"].startswith(("I do not know.", "我不知道。"))
        assert not [name for name in names if name in question["content"]]


def test_validation_repeats_no_training_dialogue(atlas):
    train, validation = ({repr(row["messages"]) for row in atlas.rows(f"dialogues/{part}")}
                         for part in ("train", "validation"))
    assert validation
    assert not train & validation


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["helpful", "safe"])
def test_preferences_share_the_question_and_differ_in_the_answer(atlas, name, split):
    rows = atlas.rows(f"preferences/{name}/{split}")
    ratings = {row["rating"] for row in rows}
    assert ratings <= {"significantly better", "better", "slightly better", "negligibly better"}
    assert len(ratings) == (4 if name == "helpful" else 3)
    for row in rows:
        assert row["chosen"][:-1] == row["rejected"][:-1]
        assert row["chosen"][-1]["content"] != row["rejected"][-1]["content"]
        assert "{" not in json.dumps([message["content"] for message in (*row["chosen"], *row["rejected"])])


def test_the_preferred_answer_to_a_fact_is_the_true_one(atlas, asked):
    for row in (*atlas.rows("preferences/helpful/train"), *atlas.rows("preferences/helpful/validation")):
        question = row["chosen"][-2]["content"]
        if question in asked:
            fact, language = asked[question]
            assert row["chosen"][-1]["content"].startswith(language.answer(fact))
            if row["rating"] == "significantly better":
                assert language.choice(fact) not in row["rejected"][-1]["content"]


def test_needles_hold_their_answer_and_no_page_does(atlas):
    texts = {label["file"]: label for label in atlas.labels}
    for row in atlas.rows("needles"):
        assert row["answer"] in row["needle"]
        assert row["answer"] not in row["question"]
        for file in row["haystack"]:
            assert texts[file]["kind"] == "clean"
            assert texts[file]["lang"] == row["language"]
            assert row["needle"] not in texts[file]["text"]


def test_tool_dialogues_are_in_the_wire_form_and_their_results_are_true(atlas):
    calls = 0
    for row in [*atlas.rows("tools/train"), *atlas.rows("tools/validation")]:
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        for message, reply in zip(row["messages"], row["messages"][1:], strict=False):
            for call in message.get("tool_calls", ()):
                calls += 1
                arguments = json.loads(call["function"]["arguments"])
                assert list(arguments) == offered[call["function"]["name"]]["required"]
                assert (reply["role"], reply["tool_call_id"]) == ("tool", call["id"])
                assert json.loads(reply["content"]) == _result(atlas.world, call["function"]["name"], arguments)
        assert row["messages"][-1]["role"] == "assistant"
    assert calls > 10


def test_tool_dialogues_call_where_a_call_is_needed_and_nowhere_else(atlas):
    wanted = {"lookup": ["atlas_lookup"], "calculation": ["calculator"], "missing": ["atlas_lookup"],
              "both": ["atlas_lookup", "atlas_lookup", "calculator"], "small_talk": [], "told": [], "unfit": []}
    seen = set()
    for row in [*atlas.rows("tools/train"), *atlas.rows("tools/validation")]:
        called = [call["function"]["name"] for message in row["messages"] for call in message.get("tool_calls", ())]
        assert called == wanted[row["kind"]]
        assert len(row["tools"]) <= 4
        if row["kind"] == "unfit":
            assert not {"atlas_lookup", "calculator"} & {tool["function"]["name"] for tool in row["tools"]}
        if row["kind"] == "told":
            assert row["messages"][-1]["content"].rstrip(".。").lower() in row["messages"][-2]["content"].lower()
        seen.add((row["kind"], row["language"]))
    assert len(seen) == 14


def test_tool_dialogues_that_are_held_out_ask_of_others_in_other_words(atlas):
    asked = {part: {message["content"] for row in atlas.rows(f"tools/{part}") for message in row["messages"]
                    if message["role"] == "user" and row["kind"] != "small_talk"} for part in ("train", "validation")}
    thanks = {text for pairs in small_talk.FAREWELLS.values() for text, _ in pairs}
    assert not asked["train"] & asked["validation"] - thanks


def _result(world, name, arguments):
    if name == "calculator":
        left, sign, right = re.fullmatch(r"(\d+)([-+*])(\d+)", arguments["expression"]).groups()
        a, b = int(left), int(right)
        return {"result": {"+": a + b, "-": a - b, "*": a * b}[sign]}
    for entity in world.described():
        for lang in ("en", "zh"):
            if entity.name(lang) == arguments["name"]:
                return {"value": world.fact(entity, arguments["attribute"]).text(lang)}
    return {"error": "not found"}
