"""The code interpreter's sessions: start, a cell, an interrupted cell, a plot; against a bare Jupyter kernel.

    python benchmarks/interpreter.py [--full]

A session starts with its packages laid out, up to the answer of its first cell; the walls were tried before, once per
process. The kernel has no walls, and is what GLM-4's own demonstration starts; it finds matplotlib's list of fonts in
the user's cache, where a session makes its own. An interrupt counts from when it is sent until the answer. Everyone
takes turns; medians. The ceiling is a bare Python that starts, without its site packages, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from _harness import Case, arguments, installed, measure_interleaved, report

from headwater.agent.interpreter.interpreter import Interpreter, InterpreterSettings
from headwater.agent.tool import Observation
from headwater.errors import InputError
from headwater.sandbox.isolation import isolation

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()"
ENDLESS_SECONDS = 0.2
KERNEL = "bare Jupyter kernel"

Run = Callable[[str], None]


def ours(loop: asyncio.Runner, tool: Interpreter) -> Run:
    def run(code: str) -> None:
        said: Observation = loop.run(tool.call("python", {"code": code}))
        assert not said.failed, said.text

    return run


@contextlib.contextmanager
def session(loop: asyncio.Runner) -> Iterator[Run]:
    tool = Interpreter(InterpreterSettings())
    try:
        yield ours(loop, tool)
    finally:
        loop.run(tool.close())


@contextlib.contextmanager
def kernel() -> Iterator[Run]:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")

    def run(code: str) -> None:
        assert client.execute_interactive(code, output_hook=lambda _: None, timeout=60)["content"]["status"] == "ok"

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def started(opened: Callable[[], contextlib.AbstractContextManager[Run]]) -> float:
    """Seconds up to the first cell's answer, without the end."""
    start = time.perf_counter()
    with opened() as run:
        run("1")
        return time.perf_counter() - start


def medians(sides: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, seconds in sides.items():
            found[name].append(seconds())
    return {name: statistics.median(values) for name, values in found.items()}


def interrupted(loop: asyncio.Runner) -> float:
    """Seconds from the end of a cell's time to its answer."""
    tool = Interpreter(InterpreterSettings(seconds=ENDLESS_SECONDS))
    try:
        loop.run(tool.call("python", {"code": "1"}))
        start = time.perf_counter()
        loop.run(tool.call("python", {"code": "while True:\n    pass"}))
        return time.perf_counter() - start - ENDLESS_SECONDS
    finally:
        loop.run(tool.close())


def row(case: str, found: dict[str, float]) -> Case:
    """In milliseconds."""
    mine = found["ours"] * 1000
    if KERNEL in found:
        return Case.compare(case, "ms", mine, KERNEL, found[KERNEL] * 1000, more_is_better=False)
    return Case(case, "ms", mine, f"{KERNEL}: jupyter_client and ipykernel are not installed")


def measured(repeats: int) -> list[Case]:
    has_kernel = installed("ipykernel") is not None and installed("jupyter_client") is not None
    with asyncio.Runner() as loop, contextlib.ExitStack() as held:
        opened: dict[str, Callable[[], contextlib.AbstractContextManager[Run]]] = {"ours": lambda: session(loop)}
        if has_kernel:
            opened[KERNEL] = kernel
        starts = medians({name: lambda opening=opening: started(opening) for name, opening in opened.items()}, repeats)
        sides = {name: held.enter_context(opening()) for name, opening in opened.items()}
        cell = measure_interleaved({name: lambda run=run: run("x = 1\nx + 1") for name, run in sides.items()},
                                   20 * repeats)
        rows = [row("start, to the first answer", starts), row("a cell", cell)]
        rows.append(Case("an endless loop, from interrupt to answer", "ms",
                         statistics.median(interrupted(loop) for _ in range(repeats)) * 1000, "not asked of a kernel"))
        if installed("matplotlib") is None:
            return [*rows, Case("a plot", "ms", None, "matplotlib is not installed")]
        first = medians({name: lambda run=run: timed(run, PLOT) for name, run in sides.items()}, 1)
        later = measure_interleaved({name: lambda run=run: run(PLOT) for name, run in sides.items()}, repeats)
        return [*rows, row("the first plot, with its import", first), row("a later plot", later)]


def timed(run: Run, code: str) -> float:
    start = time.perf_counter()
    run(code)
    return time.perf_counter() - start


def main() -> None:
    options = arguments(__doc__)
    start = time.perf_counter()
    try:
        level = isolation().level
    except InputError as error:
        return report("interpreter", [Case("all", "ms", None, f"no walls here: {error.what}")], {})
    tried = time.perf_counter() - start
    rows = [Case(f"the walls tried, once: {level}", "ms", tried * 1000, "-"), *measured(30 if options.full else 7)]
    bare = measure_interleaved({"python": lambda: subprocess.run([sys.executable, "-S", "-c", ""], check=True)}, 10)
    report("interpreter", rows, {"a bare Python, ms": bare["python"] * 1000},
           ("ipykernel", "jupyter_client", "matplotlib", "numpy"))
    return None


if __name__ == "__main__":
    main()
