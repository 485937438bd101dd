"""The same corpus on a Ray cluster of two workers, and in an object store, killed and taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headwater.corpus.passes.engine import EngineSettings, map_units
from headwater.corpus.stage import CorpusSettings, run
from headwater.documents import corpus_files, read_documents
from headwater.errors import HeadwaterError, InputError, SettingsError
from headwater.storage import Store
from tests.corpus.conftest import PLAIN

Maker = Callable[[int], Path]
COLUMNS = ["text", "url", "id", "language", "tokens"]
ON_RAY = """
import json, sys
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from headwater.corpus.reading import units
from headwater.corpus.stage import CorpusSettings, run
cluster = Cluster()
for _ in range(2):
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
ray.init(cluster.address, log_to_driver=False)
units.SMALLEST = 2000
settings = {"sources": [{"path": sys.argv[1]}], "engine": {"runner": "ray", "address": cluster.address},
            **json.loads(sys.argv[3])}
run(CorpusSettings.parse(settings), Path(sys.argv[2]))
print("workers", len({node["NodeID"] for node in ray.nodes() if node["Alive"]}))
ray.shutdown()
cluster.shutdown()
"""
CHILD = """
import json, sys
from pathlib import Path
from headwater.corpus.reading import units
from headwater.corpus.stage import CorpusSettings, run
units.SMALLEST, units.WANTED = 1, 20
settings = {"sources": [{"path": sys.argv[1]}], "store": sys.argv[3], **json.loads(sys.argv[4])}
run(CorpusSettings.parse(settings), Path(sys.argv[2]))
"""


def documents(out: Path) -> dict[str, list[dict[str, Any]]]:
    return {split: list(read_documents(corpus_files(out, split), COLUMNS)) for split in ("train", "validation")}


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)})


@pytest.mark.slow
def test_two_ray_workers_give_the_corpus_of_one_machine(tmp_path: Path, pages: Maker,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    folder = pages(40)
    told, problems = start(ON_RAY, folder, tmp_path / "ray", json.dumps(PLAIN)).communicate(timeout=240)
    assert "workers 2" in told, problems[-2000:]
    run(CorpusSettings.parse({"sources": [{"path": folder}]} | PLAIN), tmp_path / "here")
    assert documents(tmp_path / "ray") == documents(tmp_path / "here")


def test_a_killed_run_in_an_object_store_loses_nothing_and_reads_only_what_counts(
        tmp_path: Path, pages: Maker, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = pages(60), tmp_path / "out"
    place = bucket.replace("PREFIX", tmp_path.name)
    store = Store(place)
    process = start(CHILD, folder, out, place, json.dumps(PLAIN))
    deadline = time.monotonic() + 60
    while len(store.names(".work/examined/records")) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = set(store.names(".work/examined/records"))
    assert 4 <= len(before) < 20, "killed too early or too late to prove anything"
    for stray in ("train/000003-000000.parquet", "train/900000-000000.parquet", ".work/examined/examined/a.parquet"):
        store.put(stray, b"half written")
    process = start(CHILD, folder, out, place, json.dumps(PLAIN))
    _, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    run(CorpusSettings.parse({"sources": [{"path": folder}]} | PLAIN), tmp_path / "here")
    assert documents(out) == documents(tmp_path / "here")
    assert "train/900000-000000.parquet" not in store.names("train")
    assert store.names(".work/examined/records") == []
    assert sorted(file.name for file in out.iterdir()) == ["checkpoints", "funnel.json", "parts.json"]


def _fail(unit: str) -> str:
    if unit == "bad":
        raise InputError("that unit is bad", where="there", fix="leave it")
    return unit * 2


def test_results_come_in_order_and_errors_as_themselves() -> None:
    assert list(map_units(_fail, ["a", "b", "c"], EngineSettings(), size=0)) == ["aa", "bb", "cc"]
    for size in (0, 1 << 40):
        with pytest.raises(InputError, match="that unit is bad") as caught:
            list(map_units(_fail, ["a", "bad"], EngineSettings(), size=size))
        assert (caught.value.where, caught.value.fix) == ("there", "leave it")


def _die(unit: str) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return unit


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(HeadwaterError, match="a worker process ended unexpectedly"):
        list(map_units(_die, ["a", "b"], EngineSettings(), size=1 << 40))


def test_ray_after_work_without_it_is_refused() -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    list(map_units(str.upper, ["a"], EngineSettings(), size=0))
    with pytest.raises(SettingsError, match="runner 'native' already"):
        list(map_units(str.upper, ["a"], EngineSettings(runner="ray"), size=0))
