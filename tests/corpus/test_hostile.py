"""Sources and settings that nobody means well: counted or refused, never a crash and never a document twice."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from headwater.artifacts import read_json
from headwater.corpus import stage
from headwater.corpus.passes import engine
from headwater.corpus.passes.engine import EngineSettings, map_units
from headwater.corpus.reading import readers, streams, units
from headwater.corpus.reading.readers import DAMAGED, TOO_LARGE, read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.reading.units import plan_units
from headwater.corpus.stage import CorpusSettings, run
from headwater.corpus.steps import Examiner, StepSettings
from headwater.documents import corpus_files, count_texts, read_texts
from headwater.errors import HeadwaterError, InputError, SettingsError, StorageError
from tests.corpus.conftest import PLAIN, chinese, english, page

Maker = Callable[[int], Path]
SENTENCES = PLAIN | {"repeated_sentences": {}}


def settings(path: Path, **options: Any) -> CorpusSettings:
    return CorpusSettings.parse({"sources": [{"path": path}], **PLAIN, **options})


def removed(out: Path) -> dict[str, str]:
    rows = [row for part in (out / "removed").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    return {row["url"]: row["reason"] for row in rows}


def content(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def test_a_line_too_large_for_its_unit_repeats_no_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Breaks when a unit looks for its end before it has skipped the rest of the line.
    for module in (readers, streams):
        monkeypatch.setattr(module, "LARGEST", 1000)
    for name in ("SMALLEST", "LARGEST"):
        monkeypatch.setattr(units, name, 2000)
    lines = [json.dumps({"text": text}) for text in ("first", "x" * 9000, "third", "y" * 9000, "fifth")]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    pieces = [piece for unit in plan_units(list_shards([Source(path=tmp_path)])) for piece in unit.pieces]
    assert len(pieces) > 1
    found = [raw for piece in pieces for raw in read(piece.shard, piece.begin, piece.end, piece.first)]
    assert [raw.problem or raw.content for raw in found] == [b"first", TOO_LARGE, b"third", TOO_LARGE, b"fifth"]
    assert [raw.url for raw in found] == [f"{tmp_path.name}/rows.jsonl#{number}" for number in range(1, 6)]


def test_files_of_nothing_and_links_that_lead_nowhere_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("a.html", "b.txt", "c.jsonl", "d.parquet", "e.jsonl.gz"):
        (folder / name).touch()
    (folder / "f.html").symlink_to(tmp_path / "gone.html")
    (folder / "g.txt").write_text(english(1))
    run(settings(folder, validation_share=0), tmp_path / "out")
    assert removed(tmp_path / "out") == dict.fromkeys([f"pages/{name}" for name in (
        "a.html", "b.txt", "c.jsonl", "d.parquet", "e.jsonl.gz", "f.html")], "empty")


def test_rows_and_bodies_that_unpack_to_anything_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "LARGEST", 1000)
    pq.write_table(pa.table({"text": ["z" * 100_000, "short"]}), tmp_path / "a.parquet")
    body = gzip.compress(b"<p>" + b"z" * 100_000)
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n" + body
    (tmp_path / "b.warc").write_bytes(
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.b/\r\n"
        b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n" % len(http)
        + http + b"\r\n\r\n")
    found = [raw for shard in list_shards([Source(path=tmp_path)]) for raw in read(shard)]
    assert [raw.problem for raw in found] == [TOO_LARGE, None, TOO_LARGE]


def test_half_a_surrogate_pair_costs_one_character_and_not_the_text(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "na\\u00efve \\ud83d end"}\n{"text": "\\udc00一二三"}\n')
    found = [raw.content.decode() for shard in list_shards([Source(path=tmp_path)]) for raw in read(shard)]
    assert found == ["naïve \ufffd end", "\ufffd一二三"]


def test_names_of_any_bytes_are_read_in_every_format(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"dir\xff")
    folder.mkdir()
    for number, suffix in enumerate((".txt", ".html")):
        (folder / os.fsdecode(b"n\xfe" + suffix.encode())).write_bytes(page(english(number)))
    (folder / os.fsdecode(b"n\xfe.jsonl")).write_text(json.dumps({"text": english(5)}) + "\n")
    pq.write_table(pa.table({"text": pa.array([english(6)]).dictionary_encode()}), tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet").rename(folder / os.fsdecode(b"n\xfe.parquet"))
    figures = run(settings(folder, near_duplicates=None, validation_share=0), tmp_path / "out")
    assert figures["kept"] == 4
    sources = {row["source"] for part in (tmp_path / "out/train").iterdir() for row in pq.read_table(part).to_pylist()}
    assert sources == {"dir\ufffd"}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet", ".html", ".txt", ".warc"])
def test_bytes_changed_at_random_are_counted(tmp_path_factory: pytest.TempPathFactory, suffix: str) -> None:
    # Breaks when a reader or a step lets any library's error through.
    folder = tmp_path_factory.mktemp("hostile")
    rows = "".join(json.dumps({"text": english(number, 30), "url": "u"}) + "\n" for number in range(5)).encode()
    file = folder / f"file{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": [english(1), chinese(2)]}), file)
    else:
        file.write_bytes({".jsonl": rows, ".jsonl.gz": gzip.compress(rows)}.get(suffix, page(chinese(3))))
    whole, examiner = file.read_bytes(), Examiner(StepSettings.parse(PLAIN))

    @examples(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=20)), max_size=6))
    def examine(changes: list[tuple[int, bytes]]) -> None:
        changed = bytearray(whole)
        for at, new in changes:
            changed[at:at + len(new)] = new
        file.write_bytes(changed)
        for shard in list_shards([Source(path=file)]):
            for raw in read(shard):
                examiner.examine(raw)

    examine()


def test_a_full_disk_while_unpacking_is_no_damage_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                ) -> None:
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    (tmp_path / "a.parquet").unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(streams.shutil, "copyfileobj", full)
    with pytest.raises(StorageError, match="No space left"):
        list(read(list_shards([Source(path=tmp_path)])[0]))


@pytest.mark.parametrize("options", [SENTENCES, PLAIN | {"mix": {"tokens": 1}}, PLAIN | {"validation_share": 0.9999}])
def test_a_corpus_without_a_training_document_is_refused(tmp_path: Path, pages: Maker, options: dict[str, Any]) -> None:
    few = options | {"min_tokens": 10_000} if options is SENTENCES else options
    with pytest.raises(InputError, match="no document is left of 4"):
        run(settings(pages(4), **few), tmp_path / "out")
    assert not (tmp_path / "out/parts.json").exists()


def test_documents_without_a_token_can_be_kept_and_mixed(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("!!!", "???")))
    off = {"languages": None, "min_tokens": 0, "near_duplicates": None, "exact_duplicates": False}
    assert run(settings(tmp_path / "rows.jsonl", **off), tmp_path / "out")["kept"] == 2
    with pytest.raises(InputError, match="mix removed 2"):
        run(settings(tmp_path / "rows.jsonl", **off, mix={"temperature": 2}), tmp_path / "mixed")


def test_a_mix_of_unknown_sources_is_refused_before_the_work(tmp_path: Path, pages: Maker) -> None:
    with pytest.raises(SettingsError, match="no source is named 'web'"):
        run(settings(pages(2), mix={"shares": {"pages": 1, "web": 2}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_epochs_are_counted_and_read_after_the_first(tmp_path: Path, pages: Maker) -> None:
    mix = {"by": "language", "shares": {"en": 1, "zh": 1}, "tokens": 9000}
    run(settings(pages(20), mix=mix, validation_share=0), tmp_path / "out")
    files = corpus_files(tmp_path / "out", "train")
    assert {file.name.split("/")[1] for file in files} > {"epoch-2"}
    texts = [text for text, _ in read_texts(files)]
    assert len(texts) == count_texts(files) > 20
    written = read_json(tmp_path / "out/funnel.json")["mix"]
    assert len(texts) == sum(share["written_documents"] for share in written)


def test_strays_are_not_read_and_a_finished_corpus_is_not_made_again(
        tmp_path: Path, pages: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = pages(6), tmp_path / "out"
    figures = run(settings(folder), out)
    whole = content(out)
    (out / "train/999999-000000.parquet").write_bytes(b"stray")
    assert count_texts(corpus_files(out, "train")) == len(list(read_texts(corpus_files(out, "train"))))
    (out / "train/999999-000000.parquet").unlink()
    # As a kill during the last step leaves it: records that name files which are gone.
    (out / ".work/examined/records").mkdir(parents=True)
    (out / ".work/examined/fingerprint.json").write_text('"half removed"')
    monkeypatch.setattr(stage, "_build", None)
    assert run(settings(folder), out) == figures
    assert content(out) == whole


def test_a_relative_store_is_found_from_any_folder(tmp_path: Path, pages: Maker, monkeypatch: pytest.MonkeyPatch
                                                   ) -> None:
    folder = pages(6)
    monkeypatch.chdir(tmp_path)
    run(settings(folder, store="kept"), Path("out"))
    monkeypatch.chdir("/")
    assert list(read_texts(corpus_files(tmp_path / "out", "train")))


def test_a_worker_that_dies_while_it_starts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # Breaks when the wait for a process that never answers has no end.
    monkeypatch.setattr(engine, "START_SECONDS", 0.01)
    with pytest.raises(HeadwaterError, match="a worker process ended unexpectedly"):
        list(map_units(str.upper, ["a", "b"], EngineSettings(), size=1 << 40))


ORPHANED = """
import sys, time
from pathlib import Path
from headwater.corpus.passes.engine import EngineSettings, map_units
def work(unit):
    Path(unit.split("|")[1]).write_text("begun")
    time.sleep(3)
    Path(unit.split("|")[1]).write_text("finished by an orphan")
    return unit
file = sys.argv[1]
list(map_units(work, [f"1|{file}", f"2|{file}"], EngineSettings(), size=1 << 40))
"""


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    file = tmp_path / "mark"
    process = subprocess.Popen([sys.executable, "-c", ORPHANED,
                                str(file)], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(4)
    assert file.read_text() == "begun"


def test_nothing_of_a_damaged_file_is_lost_without_a_word(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress("".join(json.dumps({"text": english(number)}) + "\n"
                                             for number in range(50)).encode()))
    packed[len(packed) // 2:] = b""
    (tmp_path / "rows.jsonl.gz").write_bytes(packed)
    run(settings(tmp_path / "rows.jsonl.gz"), tmp_path / "out")
    assert DAMAGED in removed(tmp_path / "out").values()
