"""Breaks when one thing lands on both sides of the split, or the sides depend on anything but words and seed."""

import random

from hypothesis import given
from hypothesis import strategies as st

from headwater.dialogues.splitting import split


def sides(every, share, seed=0):
    return split(every, share, seed, str)


@given(questions=st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=30), share=st.floats(0.01, 0.99),
       seed=st.integers(0, 2**63 - 1))
def test_equal_words_are_never_on_both_sides(questions, share, seed):
    train, held_out = sides(questions, share, seed)
    assert sorted(train + held_out) == sorted(questions)
    assert held_out
    assert not set(train) & set(held_out)


def test_the_split_is_a_function_of_words_and_seed():
    questions = [f"question {number}" for number in range(2000)]
    _, held_out = sides(questions, 0.1)
    assert 150 < len(held_out) < 250
    assert set(sides(random.Random(0).sample(questions, 2000), 0.1)[1]) == set(held_out)
    assert set(sides(questions[:1000], 0.1)[1]) < set(held_out)
    assert set(sides(questions, 0.1, seed=1)[1]) != set(held_out)
    spaced = [f"Question  {number}\n" for number in range(2000)]
    assert len(sides(spaced, 0.1)[1]) == len(held_out)
