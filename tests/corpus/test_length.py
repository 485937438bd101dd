from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.judging.length import count_tokens, token_starts, tokens

ALPHABET = "ab9_ ,.\n-é中文字\u3007𠀀ｆ９한\ud800\U0010ffff"


@given(st.text(ALPHABET, max_size=60), st.integers(1, 40))
def test_the_count_is_that_of_the_tokens_however_long_the_text(text: str, copies: int) -> None:
    """Would break if the quick count of long texts took other characters for words than the tokens do."""
    assert count_tokens(text * copies) == len(tokens(text * copies))


@pytest.mark.parametrize(("text", "begins"), [("", ""), ("ab 中文c1", "1001110"), ("_a-b", "0101")])
def test_a_token_begins_at_a_word_and_at_every_han_character(text: str, begins: str) -> None:
    """Would break if Han characters were counted as the words of an alphabet, or an underline as a letter."""
    assert "".join(map(str, token_starts(text).astype(np.int64))) == begins
