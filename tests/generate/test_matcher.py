"""What always holds for answers under a constraint: looping models, little room, marks, stop texts, limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.generate import Engine, SamplingParams
from headwater.generate.constraint import Constraint
from headwater.generate.token_table import TokenTable
from headwater.tokenizer import Tokenizer
from tests.generate.random_models import random_engine
from tests.generate.schemas import REFUSED, SCHEMAS, tool

pytest.importorskip("llguidance", reason="llguidance is not installed")
jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
VOCABULARIES = ("llama-32000", "chatglm2-3-64794", "gpt2-50257", "qwen-151643", "internlm2-92544", "mistral-32000")


@pytest.fixture(scope="module")
def random(trained: Tokenizer) -> Engine:
    return random_engine(trained)


def of(value: Any) -> Constraint:
    return Constraint(kind="json_schema", text=json.dumps(value, ensure_ascii=False))


def regex(text: str) -> Constraint:
    return Constraint(kind="regex", text=text)


def grammar(text: str) -> Constraint:
    return Constraint(kind="grammar", text=text)


def ending(engine: Engine, constraint: Constraint) -> list[int]:
    """The shortest answer that is known."""
    return engine.constraints.matcher(constraint, 500)._ending


def holds(schema: Any, text: str) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(json.loads(text))


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_of_a_random_model_fits_its_schema(random: Engine, name: str) -> None:
    """Fifty for each of twenty-one schemas; some barely have room."""
    constraint = of(SCHEMAS[name])
    least = len(random.constraints.endings.joined(ending(random, constraint)))
    params = [SamplingParams(constraint=constraint, seed=seed, temperature=(1, 2, 0)[seed % 3],
                             max_tokens=least + (0, 1, 7, 40)[seed % 4]) for seed in range(50)]
    answers = random.generate([[9 + seed % 7] for seed in range(50)], params)
    assert len(answers) == 50
    for answer, own in zip(answers, params, strict=True):
        holds(SCHEMAS[name], answer.text)
        assert len(answer.tokens) <= own.max_tokens
        assert answer.finish_reason == "stop"
    assert len({answer.text for answer in answers}) > 2


NAMES = st.sampled_from(["a", "名", 'q"', "long_name"])
PLAIN = st.one_of(
    st.fixed_dictionaries({"type": st.just("string"), "minLength": st.integers(0, 3)}),
    st.tuples(st.integers(-9, 9), st.integers(0, 99)).map(
        lambda two: {"type": "integer", "minimum": two[0], "maximum": two[0] + two[1]}),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"enum": ["x", 3, None, "长"]}, {"const": {"k": [1]}}]))
SOME = st.recursive(PLAIN, lambda inner: st.one_of(
    st.builds(lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 2)),
    st.dictionaries(NAMES, inner, max_size=3).map(lambda own: tool(tuple(own)[::2], **own)),
    st.lists(inner, min_size=1, max_size=2).map(lambda several: {"anyOf": several})), max_leaves=6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SOME, st.integers(0, 5), st.integers(0, 30))
def test_whatever_the_schema_and_the_room(random: Engine, schema: dict[str, Any], seed: int, spare: int) -> None:
    constraint = of(schema)
    room = len(ending(random, constraint)) + spare
    answer = random.generate([[9]], SamplingParams(constraint=constraint, seed=seed, max_tokens=room))[0]
    holds(schema, answer.text)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_vocabularies_give_valid_answers_too(shared: Path, name: str) -> None:
    engine = random_engine(Tokenizer.load(shared / "tokenizers" / name))
    for schema in (SCHEMAS["weather"], SCHEMAS["天气"], SCHEMAS["mail"], SCHEMAS["tree"]):
        params = [SamplingParams(constraint=of(schema), seed=seed, max_tokens=50 + seed)
                  for seed in range(5)]
        for answer in engine.generate([[9]] * 5, params):
            holds(schema, answer.text)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_texts_become_ids_of_exactly_their_bytes(shared: Path, name: str) -> None:
    tokenizer = Tokenizer.load(shared / "tokenizers" / name)
    table = TokenTable(tokenizer, tokenizer.vocab_size)
    for text in ('{"name":"', "get_weather\n", "河流: ①ﬁ", "  x", "\n\n", "a\tb", " hello", "e\u0301", "👍",
                 "▁x", "<s>"):
        for data in (text.encode(), text.encode()[1:]):
            for ids in (table.encode(data), table.bytewise(data), table.native.tokenize_bytes(data)):
                assert b"".join(table.pieces[index] for index in ids) == data
                assert not table.marks.intersection(ids)


def test_forced_text_comes_in_the_tokenizers_own_pieces(shared: Path) -> None:
    tokenizer = Tokenizer.load(shared / "tokenizers" / "llama-32000")
    engine = random_engine(tokenizer)
    constraint = of(tool(("temperature",), temperature={"const": 3}))
    answer = engine.generate([[9]], SamplingParams(constraint=constraint, seed=1))[0]
    assert answer.text == '{"temperature":3}'
    assert len(answer.tokens) < 8


@pytest.mark.parametrize("pattern", ["[0-9]{3}-[0-9]{4}", "(foo|bar)+!", "a+b", "[a-z]*q", "x{1,3}y?", "[^a]{5}z",
                                     "(ab|cd){3,}", "河流[0-9]+", "a*"])
@pytest.mark.parametrize("room", [12, 40])
def test_answers_match_their_regex(random: Engine, pattern: str, room: int) -> None:
    params = [SamplingParams(constraint=regex(pattern), seed=seed, max_tokens=room) for seed in range(6)]
    assert all(re.fullmatch(pattern, answer.text) for answer in random.generate([[9]] * 6, params))


@pytest.mark.parametrize("room", [45, 70, 130])
def test_a_text_of_so_many_letters_fits_into_fewer_tokens(random: Engine, room: int) -> None:
    """Room for pieces and not for letters one by one; what is known to end it is cut as the answer goes on."""
    params = [SamplingParams(constraint=regex("[a-z ]{120}"), seed=seed, max_tokens=room) for seed in range(10)]
    answers = random.generate([[9]] * 10, params)
    for answer in answers:
        assert re.fullmatch("[a-z ]{120}", answer.text)
        assert len(answer.tokens) <= room
    assert len({answer.text[:10] for answer in answers}) > 5


def test_what_is_large_and_has_a_short_answer_is_answered(random: Engine) -> None:
    many = [f"option {number}" for number in range(5_000)]
    wide = {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(1_000)}}
    for constraint in (Constraint(kind="choice", text=json.dumps(many)), of(wide)):
        [answer] = random.generate([[9]], SamplingParams(constraint=constraint, max_tokens=30, seed=1))
        assert answer.text in many if constraint.kind == "choice" else isinstance(json.loads(answer.text), dict)


def test_one_of_the_choices_is_answered_and_each_can_be(random: Engine) -> None:
    choice = ("yes", "no", "不行", 'a "quoted"\nline\\')
    constraint = Constraint(kind="choice", text=json.dumps(choice))
    params = [SamplingParams(constraint=constraint, seed=seed, temperature=100) for seed in range(60)]
    answers = random.generate([[9]] * 60, params)
    assert {answer.text for answer in answers} == set(choice)
    assert {answer.finish_reason for answer in answers} == {"stop"}


def test_any_object_is_an_object(random: Engine) -> None:
    for answer in random.generate([[9]] * 10, [SamplingParams(constraint=Constraint(kind="json"), seed=seed,
                                                              max_tokens=3 + 4 * seed) for seed in range(10)]):
        assert isinstance(json.loads(answer.text), dict)


CALL = """start: "get_weather\\n" json <[END]> | /[A-Z ]{1,5}/ <[OTHER]>
json: %json {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
  "additionalProperties": false, "x-guidance": {"whitespace_flexible": false}}
"""


def test_special_tokens_are_words_of_a_grammar_and_end_the_answer(random: Engine) -> None:
    """As a tool call ends with <|observation|>."""
    tokenizer = random.tokenizer
    ends = [tokenizer.eos, tokenizer.specials["<|user|>"]]
    assert set(ends) <= random.stop_ids
    text = CALL.replace("END", str(ends[1])).replace("OTHER", str(ends[0]))
    params = [SamplingParams(constraint=grammar(text), seed=seed, max_tokens=40,
                             logit_bias={token: 100 for token in tokenizer.encode("\ng") if seed % 2})
              for seed in range(30)]
    marks = set()
    for answer in random.generate([[9]] * 30, params):
        assert answer.finish_reason == "stop"
        name, _, arguments = answer.text.partition("\n")
        if answer.end_mark == ends[1]:
            assert name == "get_weather"
            assert list(json.loads(arguments)) == ["city"]
        else:
            assert re.fullmatch("[A-Z ]{1,5}", answer.text)
        marks.add(answer.end_mark)
    assert marks == set(ends)


def test_special_tokens_have_their_names_in_grammars(random: Engine) -> None:
    mark = random.tokenizer.specials["<|user|>"]
    answer = random.generate([[9]], SamplingParams(constraint=grammar('start: "a" <|user|>')))[0]
    assert (answer.text, answer.end_mark) == ("a", mark)


def test_a_mark_in_the_middle_of_a_grammar_does_not_end_the_answer(random: Engine) -> None:
    mark = random.tokenizer.specials["<|user|>"]
    assert mark in random.stop_ids
    answer = random.generate([[9]], SamplingParams(constraint=grammar('start: "a" <|user|> "b"')))[0]
    assert answer.text == "ab"
    assert mark in answer.tokens


def test_an_answer_ends_only_where_its_grammar_allows(random: Engine) -> None:
    """Even where the model wants nothing but its end."""
    params = SamplingParams(temperature=0, logit_bias={random.tokenizer.eos: 100},
                            constraint=of(SCHEMAS["weather"]))
    holds(SCHEMAS["weather"], random.generate([[9]], params)[0].text)
    free = random.generate([[9]], SamplingParams(temperature=0, logit_bias={random.tokenizer.eos: 100},
                                                 constraint=regex("(ab)+")))[0]
    assert (free.text, free.end_mark) == ("ab", random.tokenizer.eos)


def test_stop_texts_end_an_answer_only_where_it_is_whole(random: Engine) -> None:
    for seed in range(20):
        answer = random.generate([[9]], SamplingParams(constraint=regex("[a-c]+(;[a-c]+)*"), seed=seed,
                                                       max_tokens=30, stop=("a", ";b")))[0]
        assert re.fullmatch("[a-c]+(;[a-c]+)*", answer.text)
        assert "a" not in answer.text[1:].replace(";a", "")
        assert ";b" not in answer.text
        quoted = random.generate([[9]], SamplingParams(constraint=of(SCHEMAS["weather"]), seed=seed,
                                                       max_tokens=90, stop=('"', "}", "e")))[0]
        holds(SCHEMAS["weather"], quoted.text)


def test_constraints_go_with_penalties_bias_and_logprobs(random: Engine) -> None:
    schema = SCHEMAS["mail"]
    params = [SamplingParams(constraint=of(schema), seed=seed, max_tokens=90, presence_penalty=2,
                             frequency_penalty=-2, repetition_penalty=1.3, logit_bias={20: 100, 21: -100}, logprobs=2,
                             top_k=5 * (seed % 2), min_p=0.1 * (seed % 3)) for seed in range(12)]
    for answer in random.generate([[9]] * 12, params):
        holds(schema, answer.text)
        assert answer.logprobs is not None
        assert len(answer.logprobs) == len(answer.tokens)
        assert all(entry.logprob > float("-inf") for entry in answer.logprobs)


def test_a_constrained_row_is_the_same_alone_and_beside_others(random: Engine) -> None:
    params = [SamplingParams(seed=seed, max_tokens=60, constraint=of(SCHEMAS["mail"])
                             if seed % 2 else None) for seed in range(8)]
    together = random.generate([[9 + seed] for seed in range(8)], params)
    assert together == [random.generate([[9 + seed]], own)[0] for seed, own in enumerate(params)]


def test_streamed_deltas_join_to_the_completion(random: Engine) -> None:
    params = SamplingParams(seed=3, max_tokens=60, constraint=of(SCHEMAS["flight"]))
    deltas = list(random.stream([9], params))
    whole = random.generate([[9]], params)[0]
    assert "".join(delta.text for delta in deltas) == whole.text
    assert deltas[-1].finish_reason == whole.finish_reason == "stop"


@pytest.mark.parametrize("keyword", REFUSED)
def test_what_cannot_be_guaranteed_is_refused_by_its_name(random: Engine, keyword: str) -> None:
    params = SamplingParams(constraint=of(REFUSED[keyword]))
    with pytest.raises(InputError, match=f"json_schema cannot be held to: .*{keyword}"):
        random.submit([9], params)
    assert not random.busy


def test_a_schema_cannot_ask_for_less_than_a_guarantee(random: Engine) -> None:
    schema = {**REFUSED["uniqueItems"], "x-guidance": {"lenient": True, "coerce_one_of": True}}
    with pytest.raises(InputError, match="uniqueItems"):
        random.submit([9], SamplingParams(constraint=of(schema)))


@pytest.mark.parametrize(("constraint", "message"), [
    (regex("(?=a)b"), "look-around"), (regex("["), "unclosed"),
    (grammar("start: b"), "unknown name"), (grammar('start: "a" start'), "no answer that fits"),
    (of(False), "no value fits"), (of({"enum": []}), "Unsatisfiable"),
], ids=["look-around", "unclosed", "unknown", "endless", "false", "empty"])
def test_faulty_constraints_are_refused(random: Engine, constraint: Constraint, message: str) -> None:
    with pytest.raises(InputError, match=message):
        random.submit([9], SamplingParams(constraint=constraint))


def test_too_little_room_is_refused_with_what_is_needed(random: Engine) -> None:
    schema = tool(("a",), a={"const": "0123456789" * 3})
    with pytest.raises(InputError, match=r"at most 5 tokens that fits .* one takes \d+"):
        random.submit([9], SamplingParams(constraint=of(schema), max_tokens=5))
    with pytest.raises(InputError, match="at most 4 tokens"):
        random.submit([9] * 508, SamplingParams(constraint=of(schema)))


def test_a_constraint_is_a_value(random: Engine) -> None:
    params = SamplingParams(constraint=of(SCHEMAS["tree"]), logit_bias={7: 1.5})
    assert SamplingParams.parse(json.loads(params.model_dump_json())) == params


def test_properties_come_in_the_schemas_order(random: Engine) -> None:
    """Two schemas that are equal as values are two grammars."""
    texts = []
    for names in (("a", "b"), ("b", "a")):
        schema = tool(names, **{name: {"const": 1} for name in names})
        texts.append(random.generate([[9]], SamplingParams(constraint=of(schema)))[0].text)
    assert texts == ['{"a":1,"b":1}', '{"b":1,"a":1}']


def test_where_the_grammars_limits_are_reached_the_known_end_follows(random: Engine,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the middle is no end: the matcher says nothing more, and the answer is completed all the same."""
    params = SamplingParams(seed=1, max_tokens=60, constraint=of(SCHEMAS["mail"]))
    sequence = random.submit([9], params)
    while len(sequence.tokens) < 12:
        random.step()
    assert sequence.matcher is not None
    sequence.matcher._wait()
    sequence.matcher._state.consume_token(random.constraints.table.end)
    assert sequence.matcher._state.is_error()
    sequence.matcher._look()
    while sequence.finish_reason is None:
        random.step()
    delta = sequence.take()
    assert delta is not None
    holds(SCHEMAS["mail"], random.tokenizer.decode(sequence.tokens))


def test_without_llguidance_the_extra_is_named(trained: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.errors import MissingExtraError

    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match="headwater\\[serve\\]"):
        random_engine(trained).submit([9], SamplingParams(constraint=Constraint(kind="json")))


def test_a_model_that_only_opens_has_room_to_close(random: Engine) -> None:
    """Every token makes the end longer, from the first on."""
    nested = of({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}})
    table = random.constraints.table
    opening = {index: 100.0 for index, piece in enumerate(table.pieces) if piece and not piece.strip(b"[")}
    answer = random.generate([[9]], SamplingParams(constraint=nested, max_tokens=400, logit_bias=opening))[0]
    assert answer.text.count("[") >= 190
    assert answer.text == "[" * (len(answer.text) // 2) + "]" * (len(answer.text) // 2)
    assert answer.finish_reason == "stop"


PROGRAM = r'''start: " "? "run\n" "```\n" (line? "\n")* "```"
line: /`{0,2}([^`\n][^\n]*)?/
'''


def test_programs_go_on_until_their_fence_and_have_room_for_it(random: Engine) -> None:
    """The fence alone would be the shortest end, and none behind the first token of a line."""
    params = [SamplingParams(constraint=grammar(PROGRAM), seed=seed, temperature=1, max_tokens=40 + seed)
              for seed in range(30)]
    answers = [answer.text for answer in random.generate([[9]] * 30, params)]
    assert all(re.fullmatch(r" ?run\n```\n([^\n]*\n)*```", text) for text in answers)
    assert sum(len(text) > 40 for text in answers) > 25


def test_the_middle_of_a_character_is_no_obstacle(random: Engine) -> None:
    """Of a program that is told byte by byte no letter is refused."""
    table = random.constraints.table
    matcher = random.constraints.matcher(grammar(PROGRAM), 60)
    wanted = table.bytewise("run\n```\n山河 = 'ż'\n".encode())
    assert [matcher.takes(token, 60 - at) for at, token in enumerate(wanted, 1)] == [True] * len(wanted)
