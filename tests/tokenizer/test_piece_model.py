import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.tokenizer.piece_model import CONTROL, USER_DEFINED, piece_kind, with_controls


@pytest.fixture(scope="module")
def path(folders):
    return folders["Baichuan"] / "tokenizer.model"


def pieces_of(model):
    pieces = sentencepiece.SentencePieceProcessor()
    pieces.LoadFromSerializedProto(model)
    return pieces


@settings(max_examples=30, deadline=None)
@given(ids=st.sets(st.one_of(st.integers(3, 6), st.integers(263, 300)), min_size=1, max_size=4))  # 7 to 262: bytes
def test_only_the_named_pieces_become_controls(path, ids):
    model = path.read_bytes()
    before, after = pieces_of(model), pieces_of(with_controls(model, ids))
    for index in range(before.GetPieceSize()):
        assert after.IdToPiece(index) == before.IdToPiece(index)
        assert after.GetScore(index) == before.GetScore(index)
        assert after.IsControl(index) == (before.IsControl(index) or index in ids)
        assert after.IsByte(index) == before.IsByte(index)
    assert after.Normalize("Ａ") == before.Normalize("Ａ")


def test_kinds_are_read(path):
    model = path.read_bytes()
    assert [piece_kind(model, index) for index in (1, 3, 4)] == [CONTROL, USER_DEFINED, USER_DEFINED]
    assert piece_kind(with_controls(model, {4}), 4) == CONTROL


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"\xff" * 12, lambda data: b"\x0b" + data])
def test_damaged_bytes_are_refused(path, damage):
    with pytest.raises(InputError, match="SentencePiece model"):
        piece_kind(damage(path.read_bytes()), 10**6)


def test_a_piece_that_is_not_there_is_refused(path):
    with pytest.raises(InputError, match="no piece 100000"):
        with_controls(path.read_bytes(), {100_000})
