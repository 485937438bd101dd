"""A real server under attack: `make fuzz`, or `python -m tests.serve.fuzz --seconds 300`.

Half of the time by schemathesis, which makes requests out of the server's own OpenAPI document; half by examples of
that document with a few things in them changed, as requests made out of nothing are seldom answered.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema

from headwater.agent.functions import FunctionTool
from headwater.agent.tool import Kind
from headwater.generate import Engine
from headwater.generate.worker import Worker
from headwater.model import Decoder, ModelConfig, initialise
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
          "unsupported_method", "allow_header_conformance")
"""Not those that ask whether data is refused or taken as its schema says: much of what a request must not be depends on
the model, and on several parameters together."""
TEXTS = ["The river Velna is 482 km long and rises on Mount Taro.\n", "维尔纳河全长482公里,发源于塔罗山。"] * 20
COUNTS = ("headwater_request_success_total", "headwater_requests_refused_total", "headwater_num_requests")
SECONDS = 2.0
"""That a request may take: most are to be answered, not one for long."""


JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 20, 21, 1 << 31, -(1 << 63), 1 << 64, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "a", "\x00", "\ud800", "河", "😀" * 50, "x" * 5000, "tool", "assistant", "auto", "json_object",
    "(", "a{1,100000}", "start: x", 'start: "a" | start', "<|end|>", [], [[]], [""], [0], [[1], []], ["a", 1], {},
    {"a": {}}, {"type": "function"}, {"type": "json_object"}, {"type": "json_schema"}, {"$ref": "#/$defs/x"},
    {"type": "array", "items": {"type": "array"}, "minItems": 10**9}, {"anyOf": []}, {"5": 100}, {"-1": 0}, {"x": 0},
    {"pattern": "(?=a)b"}, {"enum": []}, {"type": ["string", "null"], "maxLength": -1})
"""Values at the edges of what parameters take, and far from it."""


def mutated(request: Any, draw: random.Random, names: Sequence[str]) -> Any:
    """The request with something in it replaced, left out, doubled or added. names: of parameters."""
    changed = copy.deepcopy(request)
    at = changed
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys or draw.random() < 0.1:
            break
        key = draw.choice(keys)
        if isinstance(at[key], (dict, list)) and draw.random() < 0.6:
            at = at[key]
            continue
        if draw.random() < 0.2:
            del at[key]
        else:
            at[key] = draw.choice(JUNK)
        return changed
    if isinstance(at, dict):
        at[draw.choice((*names, "x"))] = draw.choice(JUNK)
    else:
        at.append(draw.choice((*JUNK, *at)))
    return changed


class Attack:
    """Examples of a server's OpenAPI document, changed at random, and what is wrong with the answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.document = httpx.get(f"{url}/openapi.json").json()
        self.answered: Counter[int] = Counter()
        self._posts = [(path, post["post"]) for path, post in self.document["paths"].items() if "post" in post]

    def strike(self, seed: int) -> str | None:
        """One request: None, or what is wrong with its answer."""
        draw = random.Random(seed)
        path, operation = draw.choice(self._posts)
        body = operation["requestBody"]["content"]["application/json"]
        request = draw.choice(list(body["examples"].values()))["value"]
        names = list(self._schema(body["schema"])["properties"])
        for _ in range(draw.choice((0, 1, 1, 2, 3))):
            request = mutated(request, draw, names) if isinstance(request, dict) and request else request
        content = json.dumps(request).encode()
        answer = httpx.post(self.url + path, content=content, timeout=60)
        self.answered[answer.status_code] += 1
        wrong = self._wrong(answer, operation)
        return f"seed {seed}: {path}: {wrong}: {content[:500]!r}" if wrong else None

    def _wrong(self, answer: httpx.Response, operation: dict[str, Any]) -> str | None:
        told = operation["responses"].get(str(answer.status_code), operation["responses"]["4XX"])
        if answer.status_code >= 500:
            return f"status {answer.status_code}: {answer.text[:500]}"
        if answer.headers["content-type"].startswith("text/event-stream"):
            whole = answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text
            return None if whole else f"a stream that failed: {answer.text[-500:]}"
        schema = told["content"]["application/json"]["schema"]
        try:
            jsonschema.validate(answer.json(), {**schema, "components": self.document["components"]})
        except (jsonschema.ValidationError, ValueError) as error:
            return f"an answer of another form: {error}"
        return None

    def _schema(self, reference: dict[str, str]) -> dict[str, Any]:
        return self.document["components"]["schemas"][reference["$ref"].rpartition("/")[2]]


async def _looking() -> FunctionTool:
    def look(river: str, most: int = 3) -> str:
        if len(river) % 2:
            raise ValueError(river)
        return river[:most]

    return FunctionTool(look, effects=False)


@contextmanager
def random_server() -> Iterator[str]:
    """The address of one whose model has random weights."""
    from headwater.serve.app import make_app
    from headwater.serve.limits import Limits
    from headwater.serve.server import listen, uvicorn_config
    from headwater.serve.server_tools import ServerTools
    from headwater.serve.stopping import GracefulServer

    with tempfile.TemporaryDirectory() as folder:
        words = count_words((text, "") for text in TEXTS).weighted()
        train_bpe(words, Path(folder) / "tokenizer.model", BpeSettings(vocab_size=400, max_piece_length=8))
        tokenizer = Tokenizer.load(Path(folder))
    config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512)
    worker = Worker(Engine(initialise(Decoder(config), 0), tokenizer, max_batch=8))
    listener = listen("127.0.0.1", 0)
    listener.listen()
    app = make_app(worker, "tiny", limits=Limits(seconds=SECONDS), tools=ServerTools({"look": Kind("looks", _looking)}))
    server = GracefulServer(uvicorn_config(app), app.state.service, 1)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def attacked(url: str, seconds: int, seed: int) -> subprocess.CompletedProcess[str]:
    """What schemathesis says; its exit status is 0 where nothing failed."""
    return subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--max-time", str(seconds), "--seed",
         str(seed), "--checks", ",".join(CHECKS), "--suppress-health-check", "all", "--warnings", "off", "--no-color",
         "--continue-on-failure", "--generation-database", "none"],
        capture_output=True, text=True, cwd=tempfile.gettempdir())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with random_server() as url:
        found = attacked(url, given.seconds // 2, given.seed)
        print(found.stdout + found.stderr)
        attack, deadline, wrong = Attack(url), time.monotonic() + given.seconds // 2, []
        for number in itertools.count(given.seed * 1_000_000):
            if time.monotonic() > deadline:
                break
            wrong += filter(None, [attack.strike(number)])
        counted = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith(COUNTS)]
    print("changed examples, by status:", dict(attack.answered), *wrong, *counted, sep="\n")
    return found.returncode or bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
