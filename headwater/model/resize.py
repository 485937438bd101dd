"""A decoder with a larger vocabulary, whose new rows begin as means of old ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from headwater.errors import InputError
from headwater.model.decoder import Decoder


@torch.no_grad()
def grow_vocabulary(model: Decoder, parts: Sequence[Sequence[int]], first: int, size: int) -> Decoder:
    """The model, changed in place, with `size` rows in embedding and head.

    Row `first + i` is the mean of the rows `parts[i]`, the old ids that spelled the new piece; of a part without ids,
    and of rows beyond the last new piece, the mean of all old rows. So a new piece first says what its parts said
    together (Hewitt 2021 explains why the mean and not noise). Rows from `first` on that the old model had (padding)
    are overwritten. Raises `InputError` when `size` does not hold the new rows.
    """
    if size < first + len(parts):
        raise InputError(f"{size} rows do not hold {first} old and {len(parts)} new pieces", fix="give a larger size")
    tied = model.config.tie_word_embeddings
    model.embedding.weight = _grown(model.embedding.weight, parts, first, size)
    model.embedding.num_embeddings = size
    model.head.weight = model.embedding.weight if tied else _grown(model.head.weight, parts, first, size)
    model.head.out_features = size
    model.config = model.config.model_copy(update={"vocab_size": size})
    return model


def _grown(weight: Tensor, parts: Sequence[Sequence[int]], first: int, size: int) -> nn.Parameter:
    old = weight[:first].float()
    mean = old.mean(0)
    new = torch.stack([old[list(part)].mean(0) if part else mean for part in parts]) if parts else old[:0]
    rest = mean.expand(size - first - len(parts), -1)
    return nn.Parameter(torch.cat([weight[:first], new.to(weight.dtype), rest.to(weight.dtype)]),
                        requires_grad=weight.requires_grad)
