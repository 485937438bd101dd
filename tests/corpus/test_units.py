from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.corpus.reading import units
from headwater.corpus.reading.readers import Raw, read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.reading.units import plan_units


def in_units(path: Path) -> list[Raw]:
    planned = plan_units(list_shards([Source(path=path)]))
    return [raw for unit in planned for piece in unit.pieces
            for raw in read(piece.shard, piece.begin, piece.end, piece.first)]


def whole(path: Path) -> list[Raw]:
    return [raw for shard in list_shards([Source(path=path)]) for raw in read(shard)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=40), st.integers(1, 200), st.booleans())
def test_pieces_of_json_lines_hold_the_same_documents_as_the_file(
        tmp_path_factory: pytest.TempPathFactory, texts: list[str], wanted: int, ended: bool) -> None:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) if text else "" for text in texts]
    file.write_text("\n".join(lines) + "\n" * ended, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "SMALLEST", wanted)
        patch.setattr(units, "_BLOCK", 37)
        assert in_units(file) == whole(file)


def test_pieces_of_parquet_hold_the_same_documents_as_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(100)]}), file, row_group_size=7)
    monkeypatch.setattr(units, "SMALLEST", 300)
    assert len(plan_units(list_shards([Source(path=file)]))) > 3
    assert in_units(file) == whole(file)
    assert in_units(file)[50].url == "rows.parquet#51"


def test_small_files_share_a_unit_and_compressed_ones_stay_whole(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("x" * 100)
    (tmp_path / "z.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 10_000))
    monkeypatch.setattr(units, "SMALLEST", 250)
    planned = plan_units(list_shards([Source(path=tmp_path)]))
    assert [len(unit.pieces) for unit in planned] == [3, 2, 3, 2, 1]
    assert [unit.number for unit in planned] == [0, 1, 2, 3, 4]
    assert in_units(tmp_path) == whole(tmp_path)


def test_a_damaged_parquet_file_is_a_unit_that_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" * 100)
    monkeypatch.setattr(units, "SMALLEST", 10)
    (found,) = in_units(tmp_path)
    assert found.problem == "damaged or truncated file"
