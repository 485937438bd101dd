"""Perplexity by position and length, against the plain computation."""

import pytest
import torch
from torch.nn import functional as F

from headwater.context.perplexity import by_length, by_position, losses, sliding
from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model

TINY = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3}


def model_of(**changes):
    return initialise(Decoder(ModelConfig(**{**TINY, **changes})), 0).eval()


def texts(count, length, seed=0):
    return torch.randint(50, (count, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def plain(model, ids):
    return F.cross_entropy(model(ids)[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")


@pytest.mark.parametrize("position", ["rope", "alibi", "none"])
def test_losses_are_those_of_the_logits(position):
    model, ids = model_of(position=position), texts(3, 40)
    torch.testing.assert_close(losses(model, ids), plain(model, ids), rtol=1e-4, atol=1e-5)


def test_ranges_of_positions_cover_every_token_once():
    model, ids = model_of(), texts(4, 33)
    found, whole = by_position(losses(model, ids), [1, 9, 17, 33]), plain(model, ids)
    assert list(found) == [(1, 9), (9, 17), (17, 33)]
    assert sum(one.mean * (stop - start) for (start, stop), one in found.items()) / 32 == pytest.approx(
        whole.mean().item(), rel=1e-4)
    of_texts = whole[:, 8:16].mean(1)
    assert found[9, 17].error == pytest.approx((of_texts.std() / 2).item(), rel=1e-3)


def test_lengths_are_compared_on_the_same_tokens():
    model, ids = model_of(), texts(4, 60)
    found = by_length(model, ids, [10, 60], last=8)
    assert found[60].mean == pytest.approx(plain(model, ids)[:, -8:].mean().item(), rel=1e-4)
    assert found[10].mean == pytest.approx(plain(model, ids[:, -10:])[:, -8:].mean().item(), rel=1e-4)


@pytest.mark.parametrize(("size", "window", "stride"), [(50, 16, 8), (50, 16, 15), (16, 16, 4), (10, 16, 4),
                                                        (51, 20, 1)])
def test_a_sliding_window_reads_every_token_once_with_enough_before_it(size, window, stride):
    model, ids = model_of(), texts(2, size)
    parts = []
    for place in range(1, size):
        stop = window if place < window else min(size, window + -(-(place + 1 - window) // stride) * stride)
        start = max(0, min(stop, size) - window)
        parts.append(plain(model, ids[:, start : place + 1])[:, -1])
    torch.testing.assert_close(sliding(model, ids, window, stride), torch.stack(parts, 1), rtol=1e-4, atol=1e-5)


def test_a_window_moves_by_less_than_itself():
    with pytest.raises(InputError, match="a stride 16 of a window of 16"):
        sliding(model_of(), texts(1, 50), 16, 16)


def test_transformers_finds_the_same_losses_at_once_and_in_a_window(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers, the reference here, is not installed")
    torch.manual_seed(4)
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=50, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16, initializer_range=0.3)).eval()
    theirs.save_pretrained(tmp_path)
    model, ids = load_model(tmp_path), texts(3, 40)
    with torch.inference_mode():
        whole = theirs(ids, labels=ids).loss.item()
        # its loss of labels, -100 where a window before has read the token
        new = torch.full((3, 16), -100)
        new[:, 12:] = ids[:, 24:28]
        window = theirs(ids[:, 12:28], labels=new).loss.item()
    assert losses(model, ids).mean().item() == pytest.approx(whole, rel=1e-4)
    assert sliding(model, ids, 16, 4)[:, 23:27].mean().item() == pytest.approx(window, rel=1e-4)
