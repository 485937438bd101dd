from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from headwater.compress.calibration import CalibrationSettings, drawn, first_of
from headwater.errors import InputError
from headwater.model import ModelConfig

CONFIG = ModelConfig(vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                     max_position_embeddings=64)
LINES = [f"Line {number} of the river's book tells of mill {number * 7}.\n" for number in range(400)]


@limits(max_examples=40)
@given(st.lists(st.text(min_size=1, max_size=30)), st.integers(1, 200), st.integers(1, 12), st.integers(0, 9))
def test_no_more_is_drawn_than_is_asked_for_and_every_piece_is_the_texts_own(texts, characters, longest, seed):
    found = drawn(iter(texts), characters, longest, seed)
    pieces = [text[start : start + longest] for text in texts for start in range(0, len(text), longest)]
    left = list(pieces)
    for piece in found:
        left.remove(piece)  # each once
    total = sum(map(len, found))
    if total < characters:
        assert sorted(found) == sorted(pieces)
    else:
        assert total - len(found[-1]) < characters
    assert found == drawn(iter(texts), characters, longest, seed)


def test_pieces_come_from_the_whole_text_and_not_its_beginning():
    found = drawn(["a" * 1000, "b" * 1000, "c" * 1000], 300, 10, 0)
    assert {piece[0] for piece in found} == {"a", "b", "c"}


def test_rows_of_a_file_begin_with_bos_and_hold_its_text(trained, tmp_path):
    (tmp_path / "book.txt").write_text("".join(LINES))
    rows = CalibrationSettings(text=tmp_path / "book.txt", tokens=640, length=32).rows(None, trained, CONFIG, 0)
    assert rows.shape == (20, 32)
    assert rows[:, 0].tolist() == [trained.bos] * 20
    assert trained.decode(rows[3, 1:].tolist()).strip()[5:15] in "".join(LINES)


def test_a_corpus_gives_its_training_split(trained, tmp_path):
    for split, word in (("train", "river "), ("validation", "city ")):
        (tmp_path / split).mkdir()
        pq.write_table(pa.Table.from_pylist([{"text": word * 600, "language": "en"}]), tmp_path / split / "a.parquet")
    rows = CalibrationSettings(tokens=128).rows(tmp_path, trained, CONFIG, 0)
    assert rows.shape == (2, 64)  # as long as the model reads
    text = trained.decode(rows[0, 1:].tolist())
    assert "river" in text
    assert "city" not in text


def test_little_text_gives_fewer_rows_and_says_so(trained, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("".join(LINES[:9]))
    settings = CalibrationSettings(text=tmp_path / "short.txt", tokens=10_000, length=16)
    assert 2 < len(settings.rows(None, trained, CONFIG, 0)) < 60
    assert "fewer than calibration.tokens=10,000" in capsys.readouterr().err
    (tmp_path / "short.txt").write_text("a river")
    with pytest.raises(InputError, match="no row of 16 tokens"):
        settings.rows(None, trained, CONFIG, 0)


@pytest.mark.parametrize(("content", "why"), [(b"", "it is empty"), (b"\xff\x01" * 40, "'utf-8' codec"),
                                              (b"\x8e\0\x01" * 40, "bytes of 0")])
def test_a_file_without_text_is_told_from_a_short_one(trained, tmp_path, content, why):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(InputError, match=why):
        CalibrationSettings(text=tmp_path / "text").rows(None, trained, CONFIG, 0)


def test_a_model_of_prefixes_goes_on_with_nothing(trained):
    assert first_of(CONFIG, trained) == [trained.bos]
    assert first_of(CONFIG.model_copy(update={"prefix_ids": (7, 8, 9)}), trained) == [7, 9]


@pytest.mark.parametrize(("values", "why"), [({}, "no text"), ({"tokens": 16, "length": 32}, "rows of 32 tokens")])
def test_what_cannot_be_read_is_refused(values, why, trained, tmp_path):
    with pytest.raises(InputError, match=why):
        CalibrationSettings(**values).rows(None if not values else tmp_path, trained, CONFIG, 0)
