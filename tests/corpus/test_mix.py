from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headwater.corpus.mix import MixSettings, copies, mix_table, shortfall

NAMES = ["web", "books", "code"]


def corpus(seed: int = 0, count: int = 30_000):
    draw = np.random.default_rng(seed)
    groups = draw.choice(3, count, p=[0.7, 0.2, 0.1]).astype(np.int32)
    return groups, NAMES, draw.integers(50, 500, count).astype(np.int32), draw.random(count), draw.random(count)


def test_nothing_set_writes_every_document_once() -> None:
    written, table = copies(MixSettings(), *corpus())
    assert (written == 1).all()
    assert sum(share.target for share in table) == pytest.approx(1)
    assert [share.epochs for share in table] == pytest.approx([1, 1, 1])


def test_shares_are_met_and_the_scarcest_group_comes_once() -> None:
    written, table = copies(MixSettings(shares={"web": 1, "books": 2, "code": 1}), *corpus())
    total = sum(share.written_tokens for share in table)
    for share in table:
        assert share.written_tokens / total == pytest.approx(share.target, abs=0.01)
    assert max(share.epochs for share in table) == pytest.approx(1)
    assert written.max() == 1


def test_a_group_without_a_share_is_left_out_and_an_unknown_one_refused() -> None:
    groups, *rest = corpus()
    written, _ = copies(MixSettings(shares={"books": 1}), groups, *rest)
    assert set(groups[written > 0]) == {1}
    with pytest.raises(ValueError, match=r"no documents of 'boks' \(there are: books, code, web\)"):
        copies(MixSettings(shares={"boks": 1}), groups, *rest)


def test_more_tokens_than_there_are_repeat_documents_up_to_the_bound() -> None:
    groups, names, tokens, scores, draw = corpus()
    settings = MixSettings(tokens=int(2.5 * tokens.sum()), max_epochs=3)
    written, table = copies(settings, groups, names, tokens, scores, draw)
    assert set(written) == {2, 3}
    assert sum(share.written_tokens for share in table) == pytest.approx(settings.tokens, rel=0.01)
    written, _ = copies(MixSettings(tokens=10**12, max_epochs=3), groups, names, tokens, scores, draw)
    assert set(written) == {3}


def test_temperature_evens_the_groups_out() -> None:
    shares = {}
    for temperature in (1.0, 3.0, 1e6):
        _, table = copies(MixSettings(temperature=temperature), *corpus())
        shares[temperature] = next(share.target for share in table if share.group == "code")
    assert shares[1.0] < shares[3.0] < shares[1e6] == pytest.approx(1 / 3, abs=0.001)


def test_better_documents_come_more_often() -> None:
    groups, names, tokens, scores, draw = corpus()
    settings = MixSettings(tokens=int(tokens.sum() // 2), score_power=1)
    written, table = copies(settings, groups, names, tokens, scores, draw)
    assert written[scores > 0.8].mean() > 3 * written[scores < 0.2].mean()
    assert sum(share.written_tokens for share in table) == pytest.approx(settings.tokens, rel=0.02)


def test_what_cannot_be_reached_is_said() -> None:
    def told(**values) -> str:
        settings = MixSettings(**values)
        return shortfall(settings, copies(settings, *corpus())[1])

    assert told(shares={"web": 1, "books": 1}) == told(tokens=5_000_000, max_epochs=3) == ""
    assert "code may come 2 times at most" in (said := told(shares={"web": 1, "code": 1}, tokens=4_000_000,
                                                            max_epochs=2))
    assert "not 50.0%" in said
    assert "are written, not 1,000,000,000,000" in told(tokens=10**12)


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_a_larger_mix_holds_the_smaller_one(one: int, two: int) -> None:
    few, many = sorted((one, two))
    smaller, _ = copies(MixSettings(tokens=few), *corpus(count=2000))
    larger, _ = copies(MixSettings(tokens=many), *corpus(count=2000))
    assert (smaller <= larger).all()


def test_shares_and_temperature_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="not both"):
        MixSettings(shares={"a": 1}, temperature=2)


def test_the_table_lists_every_group() -> None:
    assert mix_table(copies(MixSettings(), *corpus())[1]).row_count == 3
