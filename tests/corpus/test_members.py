from __future__ import annotations

import gzip
import io
import json
from itertools import accumulate, pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.reading import members
from headwater.corpus.reading.members import HELD, Gap, unpacked
from headwater.corpus.reading.readers import DAMAGED, Raw, read
from headwater.corpus.reading.sources import Source, list_shards
from tests.corpus.conftest import english, page
from tests.corpus.test_readers import response


def packed(content: bytes, kind: str) -> bytes:
    return gzip.compress(content) if kind == "gzip" else pa.compress(content, codec="zstd", asbytes=True)


def documents(path: Path) -> list[Raw]:
    return [raw for shard in list_shards([Source(path=path)]) for raw in read(shard)]


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def pieces(content: bytes, kind: str, opening: bytes = b"") -> tuple[bytes, list[Gap]]:
    found = list(unpacked(io.BytesIO(content), kind, opening))
    return (b"".join(piece for piece in found if isinstance(piece, bytes)),
            [piece for piece in found if isinstance(piece, Gap)])


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=6), st.sampled_from(["gzip", "zstd"]))
def test_members_give_what_was_packed(contents: list[bytes], kind: str) -> None:
    assert pieces(b"".join(packed(content, kind) for content in contents), kind) == (b"".join(contents), [])


CONTENTS = [english(number).encode() for number in range(4)]
ARCHIVE = [gzip.compress(content) for content in CONTENTS]


@given(st.integers(0, 8 * len(b"".join(ARCHIVE)) - 1))
def test_any_flipped_bit_costs_its_member_alone(bit: int) -> None:
    # Breaks when reading stops at damage, starts again within a member or gives it before its checksum was seen.
    content, gaps = pieces(flipped(b"".join(ARCHIVE), bit), "gzip")
    ends = [sum(map(len, ARCHIVE[:number + 1])) for number in range(4)]
    hit = next(number for number, end in enumerate(ends) if bit < 8 * end)
    if gaps:  # a flipped date of a member is no damage
        assert content == b"".join(CONTENTS[:hit] + CONTENTS[hit + 1:])
        assert [(gap.begin, gap.end, gap.more) for gap in gaps] == [(ends[hit] - len(ARCHIVE[hit]), ends[hit], hit < 3)]
    else:
        assert content == b"".join(CONTENTS)


@given(st.integers(0, 60))
def test_a_damaged_zstd_frame_costs_itself_alone(byte: int) -> None:
    frames = [packed(content, "zstd") for content in CONTENTS]
    frames[1] = frames[1][:byte] + b"\xff" * 40 + frames[1][byte + 40:]
    content, gaps = pieces(b"".join(frames), "zstd")
    assert content.startswith(CONTENTS[0])
    assert content.endswith(CONTENTS[2] + CONTENTS[3])
    assert len(gaps) <= 1  # the frames hold no checksum: damage may go unnoticed


def test_of_a_large_damaged_member_what_lies_well_before_the_damage_is_given() -> None:
    large = "".join(english(number) for number in range(2500)).encode()
    assert len(large) > 2 * HELD
    whole = packed(large, "gzip")
    content, gaps = pieces(whole[:-8] + b"checksum" + ARCHIVE[0], "gzip")
    given_of_it = content.removesuffix(CONTENTS[0])
    assert large.startswith(given_of_it)
    assert len(large) - HELD - members.BLOCK <= len(given_of_it) <= len(large) - HELD
    assert [gap.more for gap in gaps] == [True]


def test_of_a_file_cut_short_everything_before_the_cut_is_given() -> None:
    content, gaps = pieces(b"".join(ARCHIVE)[:-20], "gzip")
    assert content.startswith(b"".join(CONTENTS[:3]) + CONTENTS[3][:50])
    assert [gap.reason for gap in gaps] == ["the file ends within a compressed member"]


def test_zero_padding_and_skippable_frames_are_passed_over() -> None:
    assert pieces(ARCHIVE[0] + bytes(100_000), "gzip") == (CONTENTS[0], [])
    skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
    assert pieces(skippable + packed(CONTENTS[0], "zstd") + skippable, "zstd") == (CONTENTS[0], [])
    assert pieces(ARCHIVE[0] + b"\0\0garbage", "gzip")[1][0].more is False


@pytest.mark.parametrize(("suffix", "kind"), [(".gz", "gzip"), (".zst", "zstd")])
def test_the_lines_of_the_other_members_are_read(tmp_path: Path, suffix: str, kind: str) -> None:
    # Members end where they like: the line that begins in the damaged one is lost, its end is no row of its own.
    rows = "".join(json.dumps({"text": f"{number} {english(number)}"}) + "\n" for number in range(40)).encode()
    blocks = [packed(rows[start:start + 10_000], kind) for start in range(0, len(rows), 10_000)]
    assert len(blocks) > 3
    blocks[1] = blocks[1][:300] + b"\xff" * 60 + blocks[1][360:]
    (tmp_path / f"rows.jsonl{suffix}").write_bytes(b"".join(blocks))
    found = documents(tmp_path)
    assert [raw.problem for raw in found if raw.problem] == [DAMAGED]
    kept = [int(raw.content.split()[0]) for raw in found if raw.problem is None]
    ends = list(accumulate(len(line) for line in rows.splitlines(keepends=True)))
    intact = [number for number, (begin, end) in enumerate(pairwise([0, *ends])) if end <= 10_000 or begin >= 20_000]
    assert kept == intact


def test_a_line_that_begins_a_member_is_kept_behind_damage(tmp_path: Path) -> None:
    lines = [gzip.compress(json.dumps({"text": english(number)}).encode() + b"\n") for number in range(4)]
    lines[1] = flipped(lines[1], 8 * 50)
    (tmp_path / "rows.jsonl.gz").write_bytes(b"".join(lines))
    one, loss, three, four = documents(tmp_path)
    assert [raw.content.decode() for raw in (one, three, four)] == [english(number) for number in (0, 2, 3)]
    assert f"bytes {len(lines[0])} to {len(lines[0] + lines[1])}" in loss.detail


@pytest.mark.parametrize("damaged", [0, 2, 5])
def test_an_archive_loses_the_damaged_record_alone(tmp_path: Path, damaged: int) -> None:
    # The body is stored as it is, a gzip member within a gzip member: it must not be taken for a record.
    inner = [gzip.compress(page(english(number))) for number in range(6)]
    records = [gzip.compress(response(f"http://a.b/{number}", body, headers="Content-Encoding: gzip\r\n"), 0)
               for number, body in enumerate(inner)]
    records[damaged] = flipped(records[damaged], 8 * 40)
    (tmp_path / "crawl.warc.gz").write_bytes(b"".join(records))
    found = documents(tmp_path)
    assert [raw.problem for raw in found] == [DAMAGED if number == damaged else None for number in range(6)]
    assert [raw.content for raw in found if not raw.problem] == [
        page(english(number)) for number in range(6) if number != damaged]
    assert found == documents(tmp_path)
