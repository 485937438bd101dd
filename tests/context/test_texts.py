"""Pieces of one length, of long texts first."""

from pathlib import Path

import pytest

from headwater.context.texts import pieces
from headwater.errors import InputError

LONG, SHORT = ("en", "The river runs south. " * 60), ("zh", "湖很深。")


def test_long_texts_are_cut_and_short_ones_joined_where_those_are_too_few(trained, capsys):
    found = pieces([LONG, SHORT] * 3, trained, 40, 6, 0, where=Path("x"))
    assert found.shape == (6, 40)
    assert (found[:, 0] == trained.bos).all()
    assert not (found[:, 1:] == trained.bos).any()
    assert "note" not in capsys.readouterr().err
    joined = pieces([LONG, *[SHORT] * 100], trained, 40, 500, 0, where=Path("x"))
    assert (joined[:, 1:] == trained.bos).any(1).sum() > 5
    assert "of several documents end to end" in capsys.readouterr().err


def test_pieces_are_drawn_by_the_seed(trained):
    one, same, other = (pieces([LONG] * 9, trained, 20, 5, seed, where=Path("x")).tolist() for seed in (0, 0, 1))
    assert one == same != other


def test_too_little_text_is_refused(trained):
    with pytest.raises(InputError, match="has 0 pieces of 4,000 tokens"):
        pieces([SHORT], trained, 4000, 5, 0, where=Path("x"))
