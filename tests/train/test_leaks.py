"""What must not be seen changes nothing: with a real decoder, for every objective, packed and alone."""

import numpy as np
import pytest
import torch

from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.cache import KVCache
from headwater.tokenizer.shards import Loaded
from headwater.train.batches import IGNORE, Batch
from headwater.train.blanks import BlankInfilling, GlmIds, GlmSettings
from headwater.train.layouts import Causal, Prefix
from headwater.train.packing import PackedBatches, separate_turns
from headwater.train.sentences import SentenceEnds
from headwater.train.streams import StreamBatches

VOCABULARY, LENGTH = 64, 40
ENDS = np.arange(VOCABULARY) % 5 == 0


def blanks(kind, axes):
    names = ("token_share", "sentence_share", "document_share")
    shares = {name: float(name.startswith(kind)) for name in names}
    return BlankInfilling(GlmSettings(**shares, masked_share=0.25), GlmIds(1, 2, 3, 4, 5), axes=axes,
                          sentences=SentenceEnds(ENDS, ENDS & False, ENDS & False))


def stream(layout, sizes):
    ids = np.random.default_rng(0).integers(6, VOCABULARY, sum(sizes)).astype("<u4")
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return StreamBatches(Loaded(ids, offsets, ["en"] * len(sizes), np.array(sizes)), rows=2, length=LENGTH, seed=0,
                         layout=layout)


def dialogues(separate, sizes):
    """Of short turns, or of one long question and its answer where a row holds no other; every second one learned."""
    draw, turn = np.random.default_rng(0), 4 if min(sizes) < LENGTH else LENGTH // 2
    joined = [(draw.integers(6, VOCABULARY, size).tolist(), [place // turn % 2 == 1 for place in range(size)])
              for size in np.minimum(sizes, LENGTH).tolist()]
    return PackedBatches(separate_turns(joined) if separate else joined, rows=2, length=LENGTH, seed=0, pad=0)


MAKERS = {
    "causal": lambda sizes, axes: stream(Causal(axes), sizes),
    "prefix": lambda sizes, axes: stream(Prefix(axes), sizes),
    "token-level blanks": lambda sizes, axes: stream(blanks("token", axes), sizes),
    "sentence-level blanks": lambda sizes, axes: stream(blanks("sentence", axes), sizes),
    "document-level blanks": lambda sizes, axes: stream(blanks("document", axes), sizes),
    "joined turns": lambda sizes, axes: dialogues(False, sizes),
    "separate turns": lambda sizes, axes: dialogues(True, sizes),
}
PACKED = {"packed": [15, 12, 13, 14, 12, 14], "alone": [400, 400]}


def model_of(position):
    config = ModelConfig(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=64, position=position, initializer_range=0.3)
    return initialise(Decoder(config), 0).eval()


def cases():
    for name in MAKERS:
        for packed in PACKED:
            for position in ("rope", "alibi") if name.endswith("turns") else ("rope", "rope_2d"):
                yield pytest.param((name, packed, position), id=f"{name}, {packed}, {position}")


@pytest.fixture(params=cases())
def case(request):
    name, packed, position = request.param
    model = model_of(position)
    return model, MAKERS[name](PACKED[packed], model.config.position_axes).batch(0), packed


def logits(model, batch, tokens):
    return model(tokens, batch.intervals.dense(), batch.positions)


@torch.no_grad()
def test_changing_a_hidden_token_changes_no_logit_that_must_not_see_it(case):
    """Bit for bit; and those that see it change, but for padding, which nothing sees."""
    model, batch, packed = case
    before, seen = logits(model, batch, batch.tokens), batch.intervals.dense()[:, 0]
    assert (packed == "alone") == bool(((batch.first == 0) | (batch.places < 0)).all())
    for key in range(LENGTH):
        tokens = batch.tokens.clone()
        tokens[:, key] = (tokens[:, key] + 17) % VOCABULARY
        changed = (logits(model, batch, tokens) != before).any(-1)
        assert torch.equal(changed, seen[:, :, key])


def test_no_gradient_reaches_a_hidden_embedding(case):
    """d(logit)/d(embedding) is exactly zero where the query does not see the key, and nowhere else."""
    model, batch, _ = case
    kept = []
    hook = model.embedding.register_forward_hook(
        lambda module, inputs, output: kept.append(output.detach().requires_grad_()) or kept[-1])
    found = logits(model, batch, batch.tokens)
    hook.remove()
    weights = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0))
    reached = [torch.autograd.grad((found[:, query] @ weights).sum(), kept[0], retain_graph=True)[0].abs().sum(-1) > 0
               for query in range(LENGTH)]
    assert torch.equal(torch.stack(reached, 1), batch.intervals.dense()[:, 0])


@torch.no_grad()
def test_reading_through_a_cache_gives_the_same_and_leaks_nothing(case):
    """Parts that are read both ways at once, the others token by token, as a model is used."""
    model, batch, _ = case
    row = Batch(*(part[:1] for part in batch))
    seen = row.intervals.dense()

    def read(tokens):
        cache, found, begin = KVCache(model.config, 1, LENGTH), [], 0
        while begin < LENGTH:
            end = int(row.last[0, begin]) + 1
            found.append(model(tokens[:, begin:end], seen[:, :, begin:end, :end], row.positions[..., begin:end], cache))
            begin = end
        return torch.cat(found, 1)

    before = read(row.tokens)
    assert torch.allclose(before, logits(model, row, row.tokens), atol=1e-4)
    for key in range(0, LENGTH, 3):
        tokens = row.tokens.clone()
        tokens[:, key] = (tokens[:, key] + 17) % VOCABULARY
        assert torch.equal((read(tokens) != before).any(-1), seen[:, 0, :, key])


def test_no_target_is_seen_by_the_token_that_asks_for_it(case):
    """By places: the token that holds a target is behind all that its asker sees."""
    _, batch, _ = case
    tokens, targets, places, last = (part.numpy() for part in (batch.tokens, batch.targets, batch.places, batch.last))
    asked = 0
    for row in range(2):
        for query in np.flatnonzero(targets[row] != IGNORE):
            following = query + 1
            if following < LENGTH and batch.first[row, following] == batch.first[row, query] and tokens[
                    row, following] == targets[row, query]:
                asked += 1
                assert last[row, query] == query < following
                assert places[row, following] >= 0
    assert asked
