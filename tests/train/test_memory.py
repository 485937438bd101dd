"""Breaks when a run's measured memory leaves out what others freed before it and it took again, or its prediction what
others hold beside the model."""

import platform

import pytest
import torch

from headwater import hardware, plan
from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.train import memory
from headwater.train.settings import TrainerSettings

SIZE = 80 << 20
CONFIG = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have another heap")
def test_what_was_freed_before_is_not_held():
    model = initialise(Decoder(CONFIG), 0)
    freed = [torch.ones(20_000) for _ in range(SIZE // 80_000)]
    last = torch.ones(20_000)  # behind them in the heap, which therefore keeps them
    held = hardware.memory_bytes()
    del freed
    assert memory.begin(model) < held - 0.8 * SIZE
    assert last.sum() == 20_000


def test_what_learns_beside_a_model_is_counted_but_for_the_libraries():
    settings = TrainerSettings(steps=1, rows=4, sequence_length=64, device="cpu")
    step = memory.planned(settings, 1, half=False, compiled=False)
    alone = plan.training_memory(CONFIG, step).total
    two = memory.Beside((CONFIG, CONFIG), held=1000)
    assert two.memory(step) == 1000 + 2 * (alone - plan.LIBRARIES[False])
    assert memory.ALONE.memory(step) == 0
    # of each weights and two moments, all of it in one file, which is held twice
    assert plan.checkpoint_bytes(step, CONFIG, CONFIG) == 2 * 36 * plan.parameters(CONFIG)


def test_a_run_that_others_leave_no_room_for_is_refused():
    settings = TrainerSettings(steps=1, rows=4, sequence_length=64, device="cpu")
    memory.require_memory(CONFIG, settings)
    with pytest.raises(InputError, match="needs about"):
        memory.require_memory(CONFIG, settings, beside=memory.Beside(held=1 << 60))
