from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headwater.generate.sampling import SamplingParams

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
HELLO = [{"role": "user", "content": "你好"}]
CONTEXT = 320  # of the model in run_folder
CHAT = "/v1/chat/completions"


def post(server: Any, **body: Any) -> Any:
    body = {"model": "tiny", "messages": HELLO, "temperature": 0, **body}
    return httpx.post(server.url + CHAT, content=json.dumps(body), timeout=30)  # escapes let a lone surrogate through


def content(response: Any) -> str:
    return response.json()["choices"][0]["message"]["content"]


def events(response: Any) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    openai = pytest.importorskip("openai", reason="the openai client is not installed")
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("question", ["你好", "hello"])
def test_the_openai_client_gets_an_answer(client: Any, question: str, lessons: dict[str, str]) -> None:
    messages = [{"role": "user", "content": question}]
    answer = client.chat.completions.create(model="tiny", messages=messages, temperature=0)
    assert answer.choices[0].message.content == lessons[question]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.id.startswith("chatcmpl-")


@pytest.mark.parametrize("question", ["你好", "hello"])
def test_the_openai_client_streams_whole_characters(client: Any, question: str, lessons: dict[str, str]) -> None:
    chunks = list(client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": question}], temperature=0, stream=True,
        stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(texts) == lessons[question]
    assert len(texts) > 5
    assert not any("\ufffd" in text for text in texts)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 5


def test_the_openai_client_lists_the_model_and_understands_errors(client: Any) -> None:
    import openai

    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="this server has 'tiny'"):
        client.chat.completions.create(model="other", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="tiny", messages=HELLO, temperature=-1)


def test_logprobs_come_in_openais_form(client: Any, lessons: dict[str, str]) -> None:
    request = {"model": "tiny", "messages": HELLO, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    entries = client.chat.completions.create(**request).choices[0].logprobs.content
    assert bytes(byte for entry in entries for byte in entry.bytes).decode() == lessons["你好"]
    assert all(entry.top_logprobs[0].logprob == entry.logprob <= 0 for entry in entries)
    streamed = [entry for chunk in client.chat.completions.create(**request, stream=True) if chunk.choices[0].logprobs
                for entry in chunk.choices[0].logprobs.content]
    assert [entry.bytes for entry in streamed] == [entry.bytes for entry in entries]


def test_content_may_be_a_list_of_text_parts(server: Any, lessons: dict[str, str]) -> None:
    parts = [{"type": "text", "text": "你"}, {"type": "text", "text": "好"}]
    assert content(post(server, messages=[{"role": "user", "content": parts}])) == lessons["你好"]


def test_a_developer_message_is_a_system_message(server: Any) -> None:
    answers = [post(server, messages=[{"role": role, "content": "Be brief."}, *HELLO]).json()
               for role in ("developer", "system")]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["usage"] == answers[1]["usage"]


def test_a_request_without_sampling_gets_the_servers_own(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, defaults=SamplingParams(temperature=0, top_p=0.9)) as server:
        seen = []
        prepare = server.engine.prepare
        server.engine.prepare = lambda prompt, params, adapter: (
            seen.append(params), prepare(prompt, params, adapter))[1]
        post(server, temperature=None)
        post(server, temperature=1.5, top_k=3)
    assert [(one.temperature, one.top_p, one.top_k) for one in seen] == [(0, 0.9, 0), (1.5, 0.9, 3)]


def test_stop_and_max_tokens_end_the_answer(server: Any) -> None:
    cut = post(server, stop=["，\n流"])
    assert (content(cut), cut.json()["choices"][0]["finish_reason"]) == ("河流从山上开始", "stop")
    short = post(server, max_completion_tokens=2)
    assert short.json()["choices"][0]["finish_reason"] == "length"
    assert short.json()["usage"]["completion_tokens"] == 2
    streamed = events(post(server, stop="大海", stream=True))
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in streamed) == "河流从山上开始，\n流入"


def test_a_seed_gives_the_same_text_alone_and_in_a_crowd(server: Any) -> None:
    def draw(seed: int) -> str:
        return content(post(server, seed=seed, temperature=1.8, max_tokens=40))

    alone = draw(11)
    with ThreadPoolExecutor(10) as pool:
        crowd = list(pool.map(draw, [11, 1, 2, 3, 11, 4, 5, 6, 11, 7]))
    assert [crowd[0], crowd[4], crowd[8]] == [alone] * 3
    assert len(set(crowd)) > 5


def test_more_clients_than_slots_all_get_the_sequential_answer(server: Any) -> None:
    questions = [["你好", "hello"][n % 2] * (1 + n % 3) for n in range(12)]

    def ask(question: str) -> str:
        return content(post(server, messages=[{"role": "user", "content": question}], max_tokens=30))

    expected = [ask(question) for question in questions]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, questions)) == expected


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(run_folder: Path, stream: bool, serving: Any) -> None:
    with serving(run_folder, max_batch=1, endless=True) as server:
        # Slow enough that it would run for much longer than this test waits.
        step = server.engine.step
        server.engine.step = lambda: (time.sleep(0.1), step())[1]
        body = {"model": "tiny", "messages": HELLO, "temperature": 0, "stream": stream}
        if stream:
            with httpx.stream("POST", server.url + CHAT, json=body, timeout=10) as answer:
                next(answer.iter_text())
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(server.url + CHAT, json=body, timeout=httpx.Timeout(10, read=0.5))
        deadline = time.monotonic() + 5
        while server.engine.busy and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not server.engine.busy
        assert post(server, max_tokens=1).status_code == 200


def test_a_full_queue_is_told_with_retry_after(run_folder: Path, serving: Any) -> None:
    with serving(run_folder, max_batch=1, max_queue=1, endless=True) as server, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: post(server, max_tokens=150), range(12)))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert 0 < len(refused) < 12
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        assert refused[0].json()["error"]["code"] == "queue_full"


@pytest.mark.parametrize(("change", "param"), [
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "wizard", "content": "hi"}]}, "messages.0.role"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages.0.tool_call_id"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "url": "x"}]}]}, "messages.0.content.0"),
    ({"messages": [*HELLO, {"role": "system", "content": "late"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "lone \ud800"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "河" * CONTEXT}]}, "messages"),
    ({"max_tokens": CONTEXT}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"temperature": -0.5}, "temperature"),
    ({"temperature": "warm"}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"seed": 1.5}, "seed"),
    ({"n": 0}, "n"),
    ({"n": 17}, "n"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}},
     "response_format"),
    ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "response_format"),
    ({"guided_choice": ["a"], "guided_regex": "a"}, "guided_choice"),
    ({"guided_choice": []}, "guided_choice"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"five": 1}}, "logit_bias"),
    ({"logit_bias": {"99999": 1}}, "logit_bias"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"temprature": 1}, "temprature"),
])
def test_bad_requests_name_their_parameter(server: Any, change: dict[str, Any], param: str) -> None:
    answer = post(server, **change)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)
    assert error["message"]


def test_a_parameter_name_that_is_not_unicode_is_refused(server: Any) -> None:
    answer = post(server, **{"\ud800": 1})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_mistyped_parameter_is_told_the_nearest_name(server: Any) -> None:
    assert "did you mean 'temperature'?" in post(server, temprature=1).json()["error"]["message"]


def test_parameters_that_ask_for_nothing_are_accepted(server: Any, lessons: dict[str, str]) -> None:
    answer = post(server, n=1, tools=[], tool_choice="none", response_format={"type": "text"}, presence_penalty=0,
                  logit_bias=None, user="me", max_tokens=None, metadata={})
    assert content(answer) == lessons["你好"]


@pytest.mark.parametrize(("body", "status", "code"), [
    (b"{", 400, "invalid_json"), (b"\xff\xfe", 400, "invalid_json"), (b"[]", 400, "invalid_json"),
    (b"[" * 10_000, 400, "invalid_json"), (b"", 400, "invalid_json"), (b" " * 30_000, 413, "body_too_large"),
])
def test_bodies_that_are_not_requests_are_refused(server: Any, body: bytes, status: int, code: str) -> None:
    answer = httpx.post(server.url + CHAT, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/v1/models/other", 404), ("GET", "/v1/nothing", 404), ("GET", CHAT, 405), ("GET", "/app.py", 404),
    ("GET", "/..%2fapp.py", 404),
])
def test_wrong_addresses_get_an_error_object(server: Any, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, server.url + path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_health_tells_what_runs(server: Any) -> None:
    answer = httpx.get(server.url + "/health")
    assert answer.status_code == 200
    assert answer.json().items() >= {"status": "ok", "model": "tiny", "active": 0, "waiting": 0}.items()


def test_a_failing_model_is_an_error_object_and_the_server_lives(run_folder: Path, lessons: dict[str, str],
                                                                 serving: Any) -> None:
    with serving(run_folder) as server:
        forward = server.engine.model.head.forward
        server.engine.model.head.forward = lambda hidden: 1 / 0
        broken = post(server)
        assert (broken.status_code, broken.json()["error"]["type"]) == (500, "server_error")
        assert "error" in events(post(server, stream=True))[-1]
        server.engine.model.head.forward = forward
        assert content(post(server)) == lessons["你好"]
