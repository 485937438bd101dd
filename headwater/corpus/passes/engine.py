"""Work spread over processes by Daft: embedded on this machine, or on a Ray cluster, by one setting."""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any, Literal

from pydantic import model_validator

from headwater import errors
from headwater.errors import HeadwaterError, MissingExtraError, SettingsError
from headwater.settings import Settings

PROCESSES_FROM = 8 << 20
"""Bytes of work from which worker processes (a second to start, one per core) beat a thread of this process."""
START_SECONDS = 60.0
"""A worker process that has not answered after so long is gone: Daft itself would wait for ever."""
PARTS = 4
"""Of the work, for each core of a cluster: every part starts a process, which takes seconds; the fewer there are, the
longer the last core works alone."""
PARENT_SECONDS = 0.2
"""How often a worker process looks whether its parent is still there."""

_chosen: list[str] = []
"""The runner that this process has used."""


class EngineSettings(Settings):
    """Where the work on documents is done. On a cluster every machine must see the sources and the `store`."""

    runner: Literal["native", "ray"] = "native"
    """native: this machine's cores; ray: a Ray cluster."""
    address: str | None = None
    """Of the Ray cluster ("auto" finds the one this machine belongs to); one on this machine when not set."""

    @model_validator(mode="after")
    def _address_is_rays(self) -> EngineSettings:
        if self.address is not None and self.runner != "ray":
            raise ValueError("address is of a Ray cluster: set runner=ray too, or leave it out")
        return self


def map_units(work: Callable[[str], str], units: list[str], settings: EngineSettings, *, size: int) -> Iterator[str]:
    """`work(unit)` for every unit, the results in order as they come; `size` is how many bytes of work there are.

    `work` must pickle. Raises the `HeadwaterError` that `work` raised, a `HeadwaterError` when a worker dies,
    `MissingExtraError` without Daft or Ray.
    """
    daft = import_daft(settings)
    processes = settings.runner == "ray" or (size >= PROCESSES_FROM and len(units) > 1)
    parent = os.getpid() if processes and settings.runner == "native" else None
    batched = daft.func.batch(return_dtype=daft.DataType.string(), batch_size=1, use_process=processes)
    function = batched(_Each(work, parent))
    frame = daft.from_pydict({"unit": units})
    if settings.runner == "ray":
        frame = frame.into_partitions(min(len(units), PARTS * _cores_of_cluster()))
    try:
        for batch in frame.select(function(daft.col("unit")).alias("outcome")).to_arrow_iter():
            yield from map(_result, batch["outcome"].to_pylist())
    except (RuntimeError, ConnectionError) as error:  # how Daft tells that a worker is gone
        if isinstance(error, RuntimeError) and "UDF process" not in str(error):
            raise
        raise HeadwaterError("a worker process ended unexpectedly (killed, or out of memory)",
                             fix="give the same command again: it goes on after what is done") from error


class _Each:
    """The batch function that Daft calls with a column of units. Errors travel as values: Daft would make text of them
    and, in a process of its own, a broken query."""

    __name__ = "work"

    def __init__(self, work: Callable[[str], str], parent: int | None) -> None:
        """parent: the process whose end ends this one too; Ray sees to its workers itself."""
        self.work, self.parent = work, parent

    def __call__(self, units: Any) -> list[str]:
        if self.parent is not None:
            threading.Thread(target=_end_with, args=(self.parent,), daemon=True).start()
            self.parent = None
        return [self._outcome(unit) for unit in units.to_pylist()]

    def _outcome(self, unit: str) -> str:
        try:
            return json.dumps({"result": self.work(unit)})
        except HeadwaterError as error:
            return json.dumps({"error": [type(error).__name__, error.what, error.where, error.fix]})
        except Exception:
            return json.dumps({"failure": traceback.format_exc()})


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would go on writing, beside the run that takes up the work again."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _result(outcome: str) -> str:
    told = json.loads(outcome)
    if "error" in told:
        kind, what, where, fix = told["error"]
        raise getattr(errors, kind)(what, where=where, fix=fix)
    if "failure" in told:
        raise AssertionError(f"a worker failed:\n{told['failure']}")
    return told["result"]


def import_daft(settings: EngineSettings | None = None) -> Any:
    """Daft, without telemetry and bars of its own, on the runner asked for. Raises `MissingExtraError`."""
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
    try:
        import daft
    except ImportError as error:
        raise MissingExtraError(f"the corpus stage needs Daft ({error})",
                                fix="pip install 'headwater[corpus]'") from None
    _limit_waiting()
    if settings is not None:
        _choose_runner(daft, settings)
    return daft


def _cores_of_cluster() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _limit_waiting() -> None:
    """Let Daft's wait for a worker that died while it started end with an error."""
    from daft.execution import udf

    class Listener(connection.Listener):
        def accept(self) -> connection.Connection:
            ready = connection.wait([self._listener._socket], START_SECONDS)  # type: ignore[attr-defined]
            if not ready:
                raise RuntimeError("UDF process did not start")
            return super().accept()

    udf.Listener = Listener  # type: ignore[misc]


def _choose_runner(daft: Any, settings: EngineSettings) -> None:
    """Daft takes one runner per process, and starts Ray before it says that it has another."""
    if _chosen and settings.runner not in _chosen:
        raise SettingsError(f"this process has worked with the runner '{_chosen[0]}' already", where="engine.runner",
                            fix="start another process")
    if settings.runner == "native":
        _chosen.append("native")
        return
    try:
        import ray  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"the engine ray needs Ray ({error})",
                                fix="pip install 'headwater[cluster]'") from None
    try:
        daft.set_runner_ray(settings.address, noop_if_initialized=True)
    except ConnectionError as error:
        raise SettingsError(f"no Ray cluster answers: {error}", where="engine.address",
                            fix="give a running cluster's address, 'auto' on one of its machines, or none") from None
    _chosen.append("ray")
