from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.compress.influence import Influence, block_influences
from headwater.compress.orders import ascending, removals
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.removal import without_blocks

FOUND = [Influence(0.8, 0, 0.9), Influence(0.1, 0, 0.4), Influence(0.3, 0, 0.2), Influence(0.1, 0, 0.3)]


@pytest.fixture(scope="module")
def model() -> Decoder:
    config = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
                         num_attention_heads=4, initializer_range=0.4)
    return initialise(Decoder(config), 3).eval()


@pytest.mark.parametrize(("order", "layers"), [
    ("influence", [1, 3, 2]),  # of two equal ones the first
    ("magnitude", [2, 3, 1]), ("last_first", [3, 2, 1])])
def test_orders_by_hand(order, layers, model):
    found = list(removals(order, FOUND, model, torch.empty(0), 0))
    assert [one.layer for one in found] == layers  # the one left is not among them
    assert [one.influence for one in found] == [FOUND[layer].influence for layer in layers]


def test_a_random_order_is_the_seed_s(model):
    orders = [[one.layer for one in removals("random", FOUND, model, torch.empty(0), seed)] for seed in range(20)]
    assert orders[7] == [one.layer for one in removals("random", FOUND, model, torch.empty(0), 7)]
    assert all(len(set(order)) == 3 for order in orders)
    assert len({tuple(order) for order in orders}) > 5


def test_the_sequential_order_measures_what_is_left(model):
    rows = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(0))
    found = block_influences(model, rows)
    order = list(removals("sequential", found, model, rows, 0))
    gone: list[int] = []
    for one in order:
        left = [layer for layer in range(4) if layer not in gone]
        with without_blocks(model, gone):
            now = [block.influence for block in block_influences(model, rows)]
        assert one.layer == left[int(np.argmin(now))]
        assert one.influence == min(now)
        gone.append(one.layer)
    assert len(gone) == 3
    assert len(model.blocks) == 4


@given(st.lists(st.integers(0, 5), min_size=1))
def test_ascending_is_the_stable_sort(values):
    assert ascending(values) == np.argsort(values, kind="stable").tolist()
