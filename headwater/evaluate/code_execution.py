"""Programs that a model wrote, run against their tests in processes that can do nothing else.

Covered: a program reads Python's standard library and the system's shared libraries, writes one folder of its own that
goes with it, and has no network, no other process, no environment; time, memory, disk, open files and threads are
bounded, and it is killed with all that it started. Which walls stand is tried by programs that attempt to get through
(`sandbox`); where the least does not hold, nothing is run.

Not covered: a fault of the kernel itself, and what is learned from timing. Of the verdict: printing, ending the process
or raising never passes, since `passed` needs a random token that comes through a pipe only when the program has ended.
A program and its tests share one interpreter, as in the official harness: one that looks for that pipe among its open
files, or gives back objects that are equal to everything, can still pass for right. That costs a score and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from headwater.errors import InputError
from headwater.sandbox import programs
from headwater.sandbox.isolation import isolation
from headwater.sandbox.programs import Limits, Outcome


def run_programs(texts: Sequence[str], limits: Limits, *, workers: int) -> list[Outcome]:
    """Each program in a fresh process, `workers` at once; outcomes in the order of the programs.

    A program passes if it runs to its end without an exception. Raises `InputError` where this machine cannot wall
    programs in.
    """
    try:
        level = isolation().level
    except InputError as error:
        raise InputError(error.what, fix=f"{error.fix}; or leave out benchmarks that run code") from None
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            return list(pool.map(lambda text: programs.run(text, limits, level), texts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
