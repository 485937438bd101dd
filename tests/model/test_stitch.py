"""Stitched memory holds the bytes of its parts, wherever they lie, and never changes the files."""

import gc
import mmap
import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.model.stitch import Part, stitched

PAGE = mmap.PAGESIZE


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("stitch") / "bytes"
    path.write_bytes(bytes(torch.randint(0, 256, (12 * PAGE,), dtype=torch.uint8).tolist()))
    descriptor = os.open(path, os.O_RDONLY)
    yield path.read_bytes(), descriptor
    assert os.pread(descriptor, 12 * PAGE, 0) == path.read_bytes()
    os.close(descriptor)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(phase=st.integers(0, PAGE - 1), pages=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=1,
                                                      max_size=4), tail=st.integers(1, PAGE - 1))
def test_parts_come_one_behind_the_other(file, phase, pages, tail):
    data, descriptor = file
    parts, place = [], phase
    for first, count in pages:  # each part begins where the one before it ended, within its page
        start = first * PAGE + place % PAGE
        length = count * PAGE + tail
        parts.append(Part(descriptor, start, start + length))
        place += length
    found = stitched(parts)
    assert found is not None
    assert bytes(found.numpy()) == b"".join(data[part.start : part.stop] for part in parts)
    found.zero_()
    del found
    gc.collect(0)  # of the young alone: it is one, and the whole heap takes half a second
    assert os.pread(descriptor, 64, 0) == data[:64]


def test_parts_that_lie_differently_towards_the_pages_are_left_to_others(file):
    _, descriptor = file
    assert stitched([Part(descriptor, 0, PAGE), Part(descriptor, PAGE + 1, 2 * PAGE)]) is None
