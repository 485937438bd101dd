"""Contenders in processes of their own, so that no allocator setting, compiled graph or switch of one touches another;
they are asked for their steps in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

Questions = dict[str, Callable[[], float]]


class Worker:
    """A contender in its process, ready."""

    def __init__(self, *arguments: str) -> None:
        """arguments: of this script, which must then call `serve`."""
        command = [sys.executable, sys.argv[0], *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.installed = bool(self._answer())

    def ask(self, question: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        return self._answer()

    def step(self) -> float:
        return self.ask("step")

    def end(self) -> None:
        self.process.communicate()

    def _answer(self) -> float:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")
        return float(line)


def serve(prepare: Callable[[], Questions | None]) -> None:
    """Be a worker: answer whether the contender is installed (None: it is not), then every line that is asked."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(value: float) -> None:
        print(float(value), file=answers, flush=True)

    questions = prepare()
    answer(questions is not None)
    for line in sys.stdin:
        assert questions is not None
        answer(questions[line.strip()]())
