"""Lines that a full disk tore, and places as ranges."""

import errno
import itertools
import json

import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.train import disk, metrics
from headwater.train.metrics import Rows, runs


def test_a_line_that_a_full_disk_tore_is_written_whole_when_there_is_space(tmp_path, monkeypatch):
    rows = Rows(tmp_path / "rows.jsonl")
    rows.add({"step": 1})
    real, torn, waited = open, [True], []

    def opened(path, mode, **options):
        stream = real(path, mode, **options)
        if torn and mode == "a":
            torn.clear()
            stream.write('{"st')
            stream.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return stream

    monkeypatch.setattr(metrics, "open", opened, raising=False)
    monkeypatch.setattr(disk, "wait_for_space", lambda folder, size, what: waited.append(folder))
    monkeypatch.setattr(disk, "WAIT_SECONDS", 0.0)
    rows.add({"step": 2})
    assert waited == [tmp_path]
    assert [json.loads(line) for line in rows.path.read_text().splitlines()] == [{"step": 1}, {"step": 2}]


@given(st.lists(st.integers(-1, 30), max_size=40))
def test_ranges_say_the_places_in_their_order(places):
    found = runs(torch.tensor(places, dtype=torch.int64))
    assert [place for begin, end in found for place in range(begin, end)] == [place for place in places if place >= 0]
    assert all(one[1] != other[0] for one, other in itertools.pairwise(found))
