"""Tools through the official client, of a model that has learned when to call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch.nn import functional as F

from headwater.generate.request import Delta
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.calls import Call, Glm4Calls, Reply, format_for

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("llguidance", reason="the extra 'serve' is not installed")
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"], "additionalProperties": False}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
TRAINS = {"type": "function", "function": {"name": "trains"}}
ASKED, WANTED = "Taro?", {"city": "塔罗", "days": 2}
TOLD, ANSWER, GREETING = "snow", "It snows 😀.", "A river."


@pytest.fixture(scope="module")
def caller(trained: Tokenizer, small_model: Path, serving: Any, tmp_path_factory: pytest.TempPathFactory
           ) -> Iterator[Any]:
    """A server whose model calls where it was asked of a city, and answers from what came back."""
    from headwater.serve.tool_wire import Function

    format = format_for(trained.chat, [Function(name="weather", parameters=CITY).definition()])
    system = format.system("")
    asked = [system, {"role": "user", "content": ASKED}, *format.render(Reply("", (Call("weather", WANTED),)))]
    lessons = [asked, [*asked, *format.observe([("weather", TOLD)]), {"role": "assistant", "content": ANSWER}],
               [system, {"role": "user", "content": "hello"}, {"role": "assistant", "content": GREETING}],
               [{"role": "user", "content": ASKED}, {"role": "assistant", "content": GREETING}]]
    run = tmp_path_factory.mktemp("runs") / "caller"
    config = ModelConfig(vocab_size=trained.vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=600)
    save_model(_taught(Decoder(config), trained, lessons), run / "finetune", tokenizer_from=small_model)
    with serving(run) as server:
        yield server


def _taught(model: Decoder, tokenizer: Tokenizer, lessons: list[Any]) -> Decoder:
    rendered = [tokenizer.chat.render(lesson) for lesson in lessons]
    longest = max(len(one.ids) for one in rendered)
    ids = torch.tensor([one.ids + [0] * (longest - len(one.ids)) for one in rendered])
    mask = torch.tensor([one.loss_mask + [False] * (longest - len(one.ids)) for one in rendered])[:, 1:]
    initialise(model, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(400):
        loss = F.cross_entropy(model(ids[:, :-1])[mask], ids[:, 1:][mask])
        if loss.item() < 0.02:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02
    return model.eval()


@pytest.fixture(scope="module")
def client(caller: Any) -> Any:
    return openai.OpenAI(base_url=caller.url + "/v1", api_key="none", max_retries=0)


def ask(client: Any, text: str = ASKED, **asked: Any) -> Any:
    return client.chat.completions.create(**{"model": "tiny", "messages": [{"role": "user", "content": text}],
                                             "temperature": 0, "tools": [WEATHER], "max_tokens": 120} | asked)


def test_a_tool_is_called_and_its_result_answered(client: Any) -> None:
    from openai.types.chat import ChatCompletion

    first = ask(client)
    assert ChatCompletion.model_validate(first.model_dump()) == first
    [choice] = first.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    [call] = choice.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == ("function", "weather", WANTED)
    messages = [{"role": "user", "content": ASKED}, choice.message,  # as the client sends it back
                {"role": "tool", "tool_call_id": call.id, "content": TOLD}]
    second = ask(client, messages=messages).choices[0]
    assert (second.message.content, second.finish_reason, second.message.tool_calls) == (ANSWER, "stop", None)


def test_a_model_that_needs_no_tool_or_may_not_call_says_text(client: Any) -> None:
    for choice in (ask(client, "hello").choices[0], ask(client, tool_choice="none").choices[0]):
        assert (choice.message.content, choice.finish_reason) == (GREETING, "stop")
        assert choice.message.tool_calls is None


@pytest.mark.parametrize("text", [ASKED, "hello"])
def test_a_stream_with_tools_joins_to_the_whole(client: Any, text: str) -> None:
    from openai.types.chat import ChatCompletionChunk

    whole, chunks = ask(client, text).choices[0], list(ask(client, text, stream=True))
    assert all(ChatCompletionChunk.model_validate(chunk.model_dump()) == chunk for chunk in chunks)
    assert sum(bool(one.choices[0].delta.tool_calls or one.choices[0].delta.content) for one in chunks) > 2
    with client.chat.completions.stream(model="tiny", messages=[{"role": "user", "content": text}], temperature=0,
                                        tools=[WEATHER], max_tokens=120) as stream:
        final = stream.get_final_completion().choices[0]
    assert (final.message.content or None, final.finish_reason) == (whole.message.content, whole.finish_reason)
    told = [(one.function.name, one.function.arguments) for one in final.message.tool_calls or ()]
    assert told == [(one.function.name, one.function.arguments) for one in whole.message.tool_calls or ()]
    assert bool(told) == (text == ASKED)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_is_asked_for_comes_and_fits_its_schema(client: Any, choice: Any) -> None:
    found = ask(client, "hello", tool_choice=choice, tools=[TRAINS, WEATHER], temperature=2.0, seed=3, n=8)
    for one in found.choices:
        [call] = one.message.tool_calls
        assert one.finish_reason == "tool_calls"
        assert call.function.name == "weather" or choice == "required"
        assert isinstance(json.loads(call.function.arguments), dict)
        if call.function.name == "weather":
            jsonschema.validate(json.loads(call.function.arguments), CITY)
    assert len({one.message.tool_calls[0].id for one in found.choices}) == 8


def test_a_strict_function_is_called_by_its_schema_where_the_model_calls_by_itself(client: Any, caller: Any) -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    mark = str(caller.engine.tokenizer.specials["<|call|>"])
    asked = {"tools": [strict], "temperature": 2.0, "seed": 5, "n": 6}
    for one in ask(client, "hello", logit_bias={mark: 100}, **asked).choices:
        jsonschema.validate(json.loads(one.message.tool_calls[0].function.arguments), CITY)
    for one in ask(client, "hello", logit_bias={mark: -100}, **asked).choices:
        assert (one.message.tool_calls, one.finish_reason) == (None, "stop")


def test_a_call_that_is_cut_off_says_so(client: Any) -> None:
    [choice] = ask(client, max_tokens=20).choices
    assert choice.finish_reason == "length"
    [call] = choice.message.tool_calls
    assert json.dumps(WANTED, ensure_ascii=False).startswith(call.function.arguments)


def call(name: str = "weather", id: str = "a", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": ASKED}


@pytest.mark.parametrize(("change", "param"), [
    ({"tools": [{"type": "function"}]}, "tools.0.function"),
    ({"tools": [{"type": "python"}]}, "tools.0.type"),
    ({"tools": [WEATHER, WEATHER]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameter": {}}}]}, "tools.0.function.parameter"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "boats"}}}, "tool_choice"),
    ({"tool_choice": "required", "tools": []}, "tool_choice"),
    ({"tool_choice": "required", "tools": [{"type": "function", "function": {
        "name": "f", "parameters": {"properties": {"a": {"not": {}}}}}}]}, "tools"),
    ({"stop": "x"}, "stop"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"extra_body": {"guided_regex": "a"}}, "guided_regex"),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [call()]}]}, "messages.1"),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [call(), call()]},
                   {"role": "tool", "tool_call_id": "a", "content": "x"}]}, "messages.1"),
    ({"messages": [USER, {"role": "assistant", "tool_calls": [call()]},
                   {"role": "tool", "tool_call_id": "b", "content": "x"}]}, "messages.2"),
    ({"messages": [USER, {"role": "tool", "tool_call_id": "a", "content": "x"}]}, "messages.1"),
    ({"messages": [{**USER, "tool_calls": [call()]}]}, "messages.0.tool_calls"),
    ({"messages": [USER, {"role": "assistant"}]}, "messages.1.content"),
])
def test_bad_requests_name_their_parameter(client: Any, change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **change)
    assert refused.value.param.startswith(param)


def test_calls_that_cannot_be_read_may_be_sent_back_and_results_come_in_any_order(client: Any, caller: Any) -> None:
    calls = [call(arguments="{oh"), call(id="b", arguments=json.dumps(WANTED))]
    results = [{"role": "tool", "tool_call_id": one, "content": text} for one, text in (("b", "2"), ("a", "1"))]
    found = [ask(client, messages=[USER, {"role": "assistant", "content": None, "tool_calls": calls}, *order])
             for order in (results, results[::-1])]
    assert found[0].choices[0].message.content == found[1].choices[0].message.content
    assert found[0].usage == found[1].usage


class Letters:
    """Ids are code points; marks stand above them."""

    specials = {"<|assistant|>": 0x110000, "<|observation|>": 0x110001}

    def decode_bytes(self, ids: list[int]) -> bytes:
        return "".join(map(chr, ids)).encode()


@pytest.mark.parametrize(("parallel", "names"), [(True, ["weather", "trains"]), (False, ["weather"])])
def test_several_calls_of_one_turn_are_told_apart(parallel: bool, names: list[str]) -> None:
    from headwater.serve.tool_wire import Function
    from headwater.serve.turn import ToolTurn, message_of

    functions = [Function(name=name).definition() for name in ("weather", "trains")]
    turn = ToolTurn(Glm4Calls(functions), Letters(), parallel=parallel)
    said = [*map(ord, '\nSo.'), 0x110000, *map(ord, 'weather\n{"a": 1}'), 0x110000, *map(ord, "trains\n{}")]
    deltas = [told for place, one in enumerate(said)
              for told in turn.feed(Delta("", (one,), (), "stop" if place == len(said) - 1 else None), 0x110001)]
    message = message_of(deltas)
    assert message["content"].strip() == "So."
    assert [one["function"]["name"] for one in message["tool_calls"]] == names
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert turn.called
