"""lm-evaluation-harness's own clients over HTTP against the engine in process, question by question."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("aiohttp", reason="aiohttp, which the harness's clients need, is not installed")
pytest.importorskip("tenacity", reason="tenacity, which the harness's clients need, is not installed")

from lm_eval import evaluator
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

from headwater.evaluate.answers import Answer
from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.reading import Part
from headwater.evaluate.harness.language_model import EngineLM
from headwater.evaluate.harness.run import answers_of, ask
from headwater.evaluate.harness.tasks import quiet, task_of

QUESTIONS, TOKENS, CONTEXT = 4, 24, 4096


@pytest.fixture(scope="module")
def stories(shared: Path, serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A server of a real checkpoint, told that it reads longer texts than it was trained on, and its folder."""
    folder = tmp_path_factory.mktemp("stories")
    model = folder / "finetune"
    shutil.copytree(shared / "checkpoints/stories260K-hf", model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    with serving(folder, limits={"body": 1 << 20}) as server:
        yield server, model


def over_http(client: Any, name: str, part: Part, *, chat: bool = False) -> list[Answer]:
    task = task_of(BENCHMARKS[name], part, "harness", 0 if chat else None)
    if task.OUTPUT_TYPE == "generate_until":
        task.config.generation_kwargs["max_gen_toks"] = TOKENS
    with quiet():
        found = evaluator.evaluate(client, {"tasks": {"it": task}, "groups": {}}, bootstrap_iters=0,
                                   apply_chat_template=chat)
    return answers_of(task, BENCHMARKS[name], part.subject, found["samples"]["it"])


@pytest.mark.parametrize("name", ["mmlu", "cmmlu", "gsm8k"])
def test_completions_score_every_question_as_the_engine_does(stories: tuple[Any, Path], shared: Path,
                                                             name: str) -> None:
    server, folder = stories
    found = next(part for part in BENCHMARKS[name].read(shared / "data/benchmarks" / name).parts if part.shots)
    part = replace(found, questions=found.questions[:QUESTIONS])
    client = LocalCompletionsAPI(base_url=f"{server.url}/v1/completions", model="tiny", tokenizer=str(folder),
                                 tokenizer_backend="huggingface", add_bos_token=True, batch_size=3,
                                 max_length=CONTEXT)
    wanted = ask(EngineLM(server.engine), BENCHMARKS[name], part, "harness",
                 max_tokens=TOKENS if name == "gsm8k" else None)
    theirs = over_http(client, name, part)
    assert len(theirs) == QUESTIONS
    for one, other in zip(theirs, wanted, strict=True):
        # The API gives the text as it continues the prompt; `hf`, and we as it does, leave out SentencePiece's space.
        assert (one.said or "").removeprefix(" ") == (other.said or "")
        assert (one.where, one.given.strip(), one.metrics) == (other.where, other.given.strip(), other.metrics)
        assert (one.logprobs or ()) == pytest.approx(other.logprobs or (), abs=1e-3)


def test_chats_are_answered_as_by_the_engine(server: Any, shared: Path) -> None:
    read = BENCHMARKS["gsm8k"].read(shared / "data/benchmarks/gsm8k").parts[0]
    short = sorted(read.questions, key=lambda row: len(row["question"]))[:QUESTIONS]
    part = replace(read, questions=tuple(short), shots=())
    client = LocalChatCompletion(base_url=f"{server.url}/v1/chat/completions", model="tiny")
    wanted = ask(EngineLM(server.engine), BENCHMARKS["gsm8k"], part, "harness", shots=0, chat=True, max_tokens=TOKENS)
    theirs = over_http(client, "gsm8k", part, chat=True)
    # The API leaves out white space before an answer.
    assert [(one.where, one.said, one.metrics) for one in theirs] == \
        [(one.where, (one.said or "").lstrip(), one.metrics) for one in wanted]
    assert any(one.said for one in theirs)
