from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.atlas.shingles import jaccard, tokens


def test_tokens_are_single_han_characters_and_lower_case_runs():
    assert tokens("The Velna is 482 km; 维尔纳河长482公里。") == [
        "the", "velna", "is", "482", "km", "维", "尔", "纳", "河", "长", "482", "公", "里"]


def test_one_changed_word_in_the_middle_changes_five_shingles():
    words = [f"w{index}" for index in range(25)]
    changed = [*words[:12], "other", *words[13:]]
    assert jaccard(" ".join(words), " ".join(changed)) == pytest.approx((21 - 5) / (21 + 5))


@given(st.text("ab 河山", max_size=60), st.text("ab 河山", max_size=60))
def test_similarity_is_symmetric_and_one_for_the_same_text(one, other):
    assert jaccard(one, other) == jaccard(other, one)
    assert 0.0 <= jaccard(one, other) <= 1.0
    assert jaccard(one, one) == 1.0
