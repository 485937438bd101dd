"""The processes that `torchrun` started for one run: meeting, agreeing, and who goes first."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist

from headwater import progress

PATIENCE = timedelta(days=7)
"""How long processes wait for the first one where it works alone (a corpus, its tokenizer, its shards)."""


def ranks() -> int:
    """Processes of this run; 1 without `torchrun`."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def local_ranks() -> int:
    """Those of them on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if ranks() > 1 else 1


def is_leader() -> bool:
    """Whether this process writes the run's files and speaks for all."""
    return ranks() == 1 or int(os.environ["RANK"]) == 0


def join() -> None:
    """Meet the other processes; nothing for one alone, or met already. From then on the leader alone says anything."""
    if ranks() > 1 and not dist.is_initialized():
        progress.console.quiet = not is_leader()
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        # Workers that torchrun started again find the addresses of the dead in the store that they meet through.
        store, rank, count = next(dist.rendezvous("env://", timeout=PATIENCE))
        attempt = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=PATIENCE, store=attempt, rank=rank,
                                world_size=count)


def leave() -> None:
    """Part from the other processes, when all is done."""
    if dist.is_initialized():
        dist.destroy_process_group()


def agree(value: Any) -> Any:
    """What the leader says (anything JSON can hold), on every process."""
    if ranks() == 1:
        return value
    join()
    text = json.dumps(value).encode() if is_leader() else b""
    size = torch.tensor([len(text)])
    dist.broadcast(size, 0)
    body = torch.frombuffer(bytearray(text), dtype=torch.uint8) if is_leader() else torch.empty(
        int(size), dtype=torch.uint8)
    dist.broadcast(body, 0)
    return json.loads(body.numpy().tobytes())


def any_says(value: bool) -> bool:
    """Whether it is true on any process."""
    if ranks() == 1:
        return value
    said = torch.tensor([int(value)])
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said)


@contextmanager
def leader_first() -> Iterator[None]:
    """The body on the leader, then on all others: for files that it writes and they find done."""
    if not is_leader():
        agree(None)
    yield
    if is_leader():
        agree(None)
