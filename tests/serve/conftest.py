from __future__ import annotations

import faulthandler
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from headwater.generate import Engine
from headwater.generate.worker import Worker
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer

LESSONS = {"你好": "河流从山上开始，\n流入大海。😀", "hello": "A river begins in the hills <b>and</b> ends in the sea."}
CONTEXT = 320


@pytest.fixture(scope="session")
def lessons() -> dict[str, str]:
    """What the model has learned by heart: question to answer, one per language."""
    return LESSONS


@pytest.fixture(scope="session")
def run_folder(trained: Tokenizer, small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a chat model that knows the lessons; its context holds 320 tokens."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    config = ModelConfig(vocab_size=trained.vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=CONTEXT)
    save_model(taught(initialise(Decoder(config), seed=1), trained), run / "finetune", tokenizer_from=small_model)
    return run


def taught(model: Decoder, tokenizer: Tokenizer) -> Decoder:
    rendered = [tokenizer.chat.render([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
                for question, answer in LESSONS.items()]
    longest = max(len(r.ids) for r in rendered)
    ids = torch.tensor([r.ids + [0] * (longest - len(r.ids)) for r in rendered])
    mask = torch.tensor([r.loss_mask + [False] * (longest - len(r.ids)) for r in rendered])[:, 1:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        loss = F.cross_entropy(model(ids[:, :-1])[mask], ids[:, 1:][mask])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    return model.eval()


@dataclass
class Running:
    url: str
    worker: Worker
    engine: Engine
    server: Any
    """Ends when its `should_exit` is set, as a signal sets it."""


@pytest.fixture(scope="session")
def serving() -> Callable[..., AbstractContextManager[Running]]:
    return _serving


@contextmanager
def _serving(run: Path, *, max_batch: int = 4, max_queue: int = 64, endless: bool = False,
            limits: dict[str, object] | None = None, graceful: float = 5, adapters: dict[str, Path] | None = None,
            kept_bytes: int = 0, **options: object) -> Iterator[Running]:
    """A real server on a loopback port. endless: no end mark ends an answer."""
    pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
    from headwater.serve.app import make_app
    from headwater.serve.limits import Limits
    from headwater.serve.server import listen, uvicorn_config
    from headwater.serve.stopping import GracefulServer

    engine = Engine.load(run / "finetune", max_batch=max_batch, adapters=adapters, kept_bytes=kept_bytes)
    if endless:
        engine.stop_ids = frozenset()
    worker = Worker(engine, max_queue=max_queue)
    listener = listen("127.0.0.1", 0)
    listener.listen()  # clients may connect before the server's thread runs
    app = make_app(worker, "tiny", limits=Limits(**{"body": 20_000, **(limits or {})}), **options)
    server = GracefulServer(uvicorn_config(app), app.state.service, graceful)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", worker, engine, server)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        if thread.is_alive():
            faulthandler.dump_traceback(file=sys.__stderr__)  # where it and its workers stand
        assert not thread.is_alive()
        assert not worker.alive


@pytest.fixture(scope="module")
def server(run_folder: Path) -> Iterator[Running]:
    with _serving(run_folder) as running:
        yield running
