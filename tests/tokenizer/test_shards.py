from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.documents import CorpusFile, corpus_files
from headwater.errors import InputError
from headwater.tokenizer import shards as module
from headwater.tokenizer.shards import Shards, write_shards

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def corpus(folder: Path, texts: list[str], *, files: int = 1, group: int = 1000) -> list[CorpusFile]:
    """A corpus whose train split has these texts, in so many files."""
    (folder / "train").mkdir(parents=True)
    for number in range(files):
        own = texts[number::files]
        table = pa.table({"text": pa.array(own, pa.string()), "language": pa.array(["en"] * len(own), pa.string()),
                          "source": pa.array([f"s{number}"] * len(own), pa.string()),
                          "id": pa.array([f"{hash(text):x}" for text in own], pa.string())})
        pq.write_table(table, folder / "train" / f"{number:03}.parquet", row_group_size=group)
    return corpus_files(folder, "train")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(ANY, min_size=1, max_size=20), files=st.integers(1, 3), group=st.integers(1, 9))
def test_documents_come_back_framed_in_order_with_their_origin(trained, tmp_path_factory, texts, files, group):
    folder = tmp_path_factory.mktemp("shards")
    found = write_shards(corpus(folder / "c", texts, files=files, group=group), trained, folder, folder / "s")
    ordered = [(text, f"s{number}") for number in range(files) for text in texts[number::files]]
    assert found.documents == len(texts)
    for index, (text, source) in enumerate(ordered):
        ids = found.document(index).tolist()
        assert (ids[0], ids[-1]) == (trained.bos, trained.eos)
        assert trained.decode(ids) == text
        assert found.utf8_bytes[index] == len(text.encode())
        assert found.table["source"][index].as_py() == source
        assert found.table["id"][index].as_py() == f"{hash(text):x}"
    assert found.dtype == np.uint16


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_stretch_of_tokens_is_that_of_the_whole(trained, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("shards")
    texts = [f"text {number} " * (number % 4) for number in range(30)]
    found = write_shards(corpus(folder / "c", texts, files=3, group=4), trained, folder, folder / "s")
    whole = np.concatenate([found.document(index) for index in range(found.documents)])
    assert len(whole) == found.total
    begin = data.draw(st.integers(0, found.total))
    end = data.draw(st.integers(begin, found.total))
    assert np.array_equal(found.tokens(begin, end), whole[begin:end])


def test_what_lies_past_the_ends_is_an_error(trained, tmp_path):
    found = write_shards(corpus(tmp_path / "c", ["a text", "b"]), trained, tmp_path, tmp_path / "s")
    for begin, end in ((-1, 2), (0, found.total + 1), (3, 2)):
        with pytest.raises(IndexError):
            found.tokens(begin, end)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            found.document(index)


def test_parts_follow_the_row_groups_and_workers_change_no_byte(trained, small_model, tmp_path, monkeypatch):
    files = corpus(tmp_path / "c", [f"text {number}" for number in range(40)], files=2, group=5)
    monkeypatch.setattr(module, "PART_ROWS", 10)
    one = write_shards(files, trained, small_model, tmp_path / "one")
    two = write_shards(files, trained, small_model, tmp_path / "two", processes=2)
    assert len(one.parts) == 4
    assert {part.documents for part in one.parts} == {10}
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert two.documents == 40


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


PROGRAM = """
import sys
from pathlib import Path
from headwater.documents import corpus_files
from headwater.tokenizer import Tokenizer, shards
if __name__ == "__main__":
    shards.PART_ROWS = 20
    model, corpus, out = map(Path, sys.argv[1:])
    shards.write_shards(corpus_files(corpus, "train"), Tokenizer.load(model), model, out)
"""


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bytes(small_model, trained, tmp_path, monkeypatch):
    corpus(tmp_path / "c", [f"text {number} " * 60 for number in range(400)], group=20)
    command = [sys.executable, "-c", PROGRAM, str(small_model), str(tmp_path / "c"), str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for parts in (1, 7, 15):
        running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while running.poll() is None and len(list((tmp_path / "killed").glob("part-*.json"))) < parts:
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        running.wait()
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").glob("part-*.json")}
    assert len(done) >= 15
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert all(file.stat().st_mtime_ns == when for file, when in done.items())
    monkeypatch.setattr(module, "PART_ROWS", 20)
    write_shards(corpus_files(tmp_path / "c", "train"), trained, small_model, tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["flipped", "swapped", "gone", "record"])
def test_a_damaged_part_is_told_and_written_again(trained, tmp_path, monkeypatch, capsys, damage):
    files = corpus(tmp_path / "c", [f"text {number}" for number in range(40)], group=5)
    monkeypatch.setattr(module, "PART_ROWS", 10)
    write_shards(files, trained, tmp_path, tmp_path / "s")
    wanted = contents(tmp_path / "s")
    part = tmp_path / "s" / "part-000001.bin"
    if damage == "flipped":
        part.write_bytes(bytes([part.read_bytes()[0] ^ 1]) + part.read_bytes()[1:])
    elif damage == "swapped":
        part.write_bytes((tmp_path / "s" / "part-000002.bin").read_bytes())
    elif damage == "gone":
        part.unlink()
    else:
        part.with_suffix(".json").write_text('{"name": "part-0')
    write_shards(files, trained, tmp_path, tmp_path / "s")
    assert contents(tmp_path / "s") == wanted
    assert "part-000001 is not what was written" in capsys.readouterr().err


def test_a_file_with_other_content_is_encoded_anew(trained, tmp_path):
    write_shards(corpus(tmp_path / "a", ["one text"]), trained, tmp_path, tmp_path / "s")
    other = write_shards(corpus(tmp_path / "b", ["two tests"]), trained, tmp_path, tmp_path / "s")
    assert trained.decode(other.document(0).tolist()) == "two tests"


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PAR1"),
                                    lambda path: path.write_bytes(path.with_name("part-000000.parquet").read_bytes())])
def test_a_damaged_table_is_named(trained, tmp_path, monkeypatch, damage):
    files = corpus(tmp_path / "c", [f"text {number} " * (1 + number) for number in range(20)], group=5)
    monkeypatch.setattr(module, "PART_ROWS", 10)
    write_shards(files, trained, tmp_path, tmp_path / "s")
    damage(tmp_path / "s" / "part-000001.parquet")
    with pytest.raises(InputError, match=r"part-000001\.parquet"):
        assert Shards(tmp_path / "s").offsets


def test_a_truncated_shard_is_refused(trained, tmp_path):
    write_shards(corpus(tmp_path / "c", ["some text"]), trained, tmp_path, tmp_path / "s")
    path = tmp_path / "s" / "part-000000.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="empty or truncated"):
        Shards(tmp_path / "s")
    path.unlink()
    with pytest.raises(InputError, match="empty or truncated"):
        Shards(tmp_path / "s")


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"tokenizer": "", "dtype": "<u2", "parts": [{"name": "a"}]}',
                                   '{"tokenizer": "", "dtype": "words", "parts": []}'])
def test_a_damaged_index_is_named(tmp_path, index):
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(InputError, match=r"index\.json"):
        Shards(tmp_path)


def test_shards_of_another_tokenizer_are_refused_and_written_again(trained, tmp_path, monkeypatch):
    files = corpus(tmp_path / "c", ["some text"])
    write_shards(files, trained, tmp_path, tmp_path / "s")
    Shards(tmp_path / "s", trained)
    monkeypatch.setattr(trained, "bos", trained.eos)
    with pytest.raises(InputError, match="by another tokenizer"):
        Shards(tmp_path / "s", trained)
    again = write_shards(files, trained, tmp_path, tmp_path / "s")
    assert again.document(0)[0] == trained.eos


def test_more_than_65536_ids_take_four_bytes(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "vocab_size", (1 << 16) + 1)
    found = write_shards(corpus(tmp_path / "c", ["some text"]), trained, tmp_path, tmp_path / "s")
    assert found.dtype == np.uint32
    assert trained.decode(found.document(0).tolist()) == "some text"
