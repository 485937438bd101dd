"""What constrains an answer: every vocabulary, expressions and grammars, free rows beside, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from headwater.errors import InputError, SettingsError
from headwater.generate import Engine, SamplingParams
from headwater.generate import constraint as constraint_module
from headwater.generate.constraint import Constraint, Constraints
from headwater.tokenizer import Tokenizer
from tests.generate.random_models import random_engine

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
           "required": ["city"], "additionalProperties": False}
CHINESE = {"type": "object", "properties": {"名字": {"type": "string", "maxLength": 5}}, "required": ["名字"],
           "additionalProperties": False}


def schema(value: Any) -> Constraint:
    return Constraint(kind="json_schema", text=json.dumps(value, ensure_ascii=False))


def check(text: str, value: Any) -> None:
    jsonschema.validate(json.loads(text), value, format_checker=jsonschema.FormatChecker())


@pytest.fixture(scope="module")
def random_model(trained: Tokenizer) -> Engine:
    return random_engine(trained)


def answers(engine: Engine, constraint: Constraint, count: int, **params: Any) -> Iterator[Any]:
    given = {"temperature": 1.0, "max_tokens": 40, "constraint": constraint} | params
    return iter(engine.generate([[5, 6, 7]] * count, [SamplingParams(seed=seed, **given) for seed in range(count)]))


@pytest.mark.parametrize("file", ["chatglm2-3-64794", "llama-32000", "chinese-llama-49953",
                                  "qwen-151643/qwen.tiktoken", "gguf-vocab/ggml-vocab-falcon.gguf"])
def test_every_familys_vocabulary_spells_exact_bytes(shared: Path, file: str) -> None:
    engine = random_engine(Tokenizer.load(shared / "tokenizers" / file), rows=4)
    for value in (WEATHER, CHINESE):
        for answer in answers(engine, schema(value), 4):
            check(answer.text, value)
    choice = Constraint(kind="choice", text=json.dumps(["get_weather\n", "  河流，长江", '"a\\b"\t\'c\'']))
    found = {answer.text for answer in answers(engine, choice, 12, temperature=30.0)}
    assert found <= set(json.loads(choice.text))
    assert len(found) > 1


def test_expressions_choices_and_grammars_are_followed(random_model: Engine) -> None:
    regex = Constraint(kind="regex", text="[0-9]{3}-[a-z]+")
    assert all(re.fullmatch(regex.text, answer.text) for answer in answers(random_model, regex, 20))
    for answer in answers(random_model, Constraint(kind="json"), 20):
        assert isinstance(json.loads(answer.text), dict)


@pytest.mark.parametrize("text", ["ab+c", "[A-Z]+[a-z]", "(ab|cd)*[0-9]{3}-x", "a{20}b*c?d", "[^x]*x",
                                  r"[0-9]+\.[0-9]+€"])
def test_expressions_end_in_time_too(random_model: Engine, text: str) -> None:
    for limit in (32, 60):
        for answer in answers(random_model, Constraint(kind="regex", text=text), 10, max_tokens=limit):
            assert re.fullmatch(text, answer.text, re.DOTALL), answer.text


def test_a_grammar_may_end_with_a_special_token(random_model: Engine, trained: Tokenizer) -> None:
    tight = WEATHER | {"x-guidance": {"whitespace_flexible": False}}
    text = f'start: "get_weather\\n" %json {json.dumps(tight)} <|observation|>'
    for answer in answers(random_model, Constraint(kind="grammar", text=text), 10):
        assert answer.end_mark == trained.specials["<|observation|>"]
        name, _, arguments = answer.text.partition("\n")
        assert name == "get_weather"
        check(arguments, WEATHER)


def test_constrained_rows_stand_beside_free_ones(random_model: Engine) -> None:
    """Neither changes what the others say, wherever rows move."""
    params = [SamplingParams(temperature=1.0, seed=number, max_tokens=8 + 5 * number, logprobs=2,
                             frequency_penalty=number % 3 / 2, logit_bias={300: 5.0} if number % 4 == 0 else {},
                             constraint=(None, schema(WEATHER), Constraint(kind="json"))[number % 3])
              for number in range(3, 17)]
    prompts = [[5 + number] * (1 + number) for number in range(len(params))]
    together = random_model.generate(prompts, params)
    assert [answer.tokens for answer in together] == [
        random_model.generate([prompt], own)[0].tokens for prompt, own in zip(prompts, params, strict=True)]
    assert all(len(answer.logprobs or []) == len(answer.tokens) for answer in together)


def test_what_the_model_likes_is_kept_where_it_is_allowed(random_model: Engine, trained: Tokenizer) -> None:
    letters = {token: 100.0 for letter in "aelnor" for token in trained.encode(letter)[-1:]}
    params = SamplingParams(temperature=1, seed=1, max_tokens=30, logit_bias=letters)
    free = random_model.generate([[5, 6]], params)[0]
    anything = params.model_copy(update={"constraint": Constraint(kind="regex", text="(?s:.*)")})
    assert random_model.generate([[5, 6]], anything)[0].tokens == free.tokens
    assert len(set(free.tokens)) > 1


@pytest.mark.parametrize(("value", "named"), [
    ({"type": "array", "uniqueItems": True}, "uniqueItems"), ({"not": {"type": "string"}}, "not"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
    ({"type": "string", "format": "nonsense"}, "nonsense"),
    ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum"), ({"type": "text"}, "text")])
def test_a_schema_that_cannot_be_held_to_is_refused_by_its_keyword(random_model: Engine, value: Any,
                                                                    named: str) -> None:
    with pytest.raises(InputError, match=named):
        random_model.generate([[5]], SamplingParams(constraint=schema(value)))
    assert not random_model.busy


@pytest.mark.parametrize(("constraint", "named"), [
    (Constraint(kind="regex", text="[a-z]+(b"), "unclosed group"),
    (Constraint(kind="grammar", text="start: <|no|>"), "no"),
    (Constraint(kind="grammar", text='begin: "x"'), "start")])
def test_what_is_no_grammar_is_told(random_model: Engine, constraint: Constraint, named: str) -> None:
    with pytest.raises(InputError, match=named):
        random_model.generate([[5]], SamplingParams(constraint=constraint))


def test_a_limit_below_the_shortest_answer_is_refused(random_model: Engine) -> None:
    """{"city":""} has eleven characters, here of a token each but for `":""` and the like."""
    shortest = None
    for limit in range(1, 30):
        params = SamplingParams(temperature=1.0, seed=limit, max_tokens=limit, constraint=schema(WEATHER))
        try:
            answer = random_model.generate([[5]], params)[0]
        except InputError as error:
            told = str(error)
            assert shortest is None, told
            continue
        shortest = shortest or limit
        check(answer.text, WEATHER)
    assert f"at most {(shortest or 0) - 1} tokens" in told
    assert shortest is not None
    assert shortest <= 11


@pytest.mark.parametrize("wrong", [
    {"kind": "json_schema", "text": "{"}, {"kind": "json_schema", "text": "[]"}, {"kind": "choice", "text": "[]"},
    {"kind": "choice", "text": '["a", ""]'}, {"kind": "regex"}, {"kind": "json", "text": "x"},
    {"kind": "xml", "text": "x"}])
def test_a_constraint_that_says_nothing_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        Constraint.parse(wrong)


def test_compiled_grammars_are_kept_and_bounded(trained: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraint_module, "KEPT", 3)
    held = Constraints(trained, trained.vocab_size)
    compiled: list[Constraint] = []
    plain = held._compile
    monkeypatch.setattr(held, "_compile", lambda asked: (compiled.append(asked), plain(asked))[1])
    asked = [Constraint(kind="regex", text=f"a{{{number}}}") for number in range(1, 6)]
    for number in (0, 1, 0, 2, 3, 0, 1):
        held.matcher(asked[number], 20)
    assert [asked.index(one) for one in compiled] == [0, 1, 2, 3, 1]
