"""Bits per byte on held-out text."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from headwater.model import Decoder
from headwater.model.intervals import Intervals
from headwater.model.scoring import ALIKE, token_log_probabilities
from headwater.progress import bar
from headwater.tokenizer.shards import Documents
from headwater.train.batches import IGNORE
from headwater.train.blanks import BlankInfilling
from headwater.train.objective import next_token
from headwater.train.packing import PackedBatches

TOKENS_PER_BATCH = 4096


def target_loss(model: Decoder, batches: PackedBatches) -> float:
    """Mean loss, in nats, over the targets of one epoch of packed sequences."""
    nats, targets = 0.0, 0
    training = model.training
    model.eval()
    with torch.no_grad():
        for step in range(batches.batches_per_epoch):
            batch = batches.batch(step).to(model.device)
            count = int((batch.targets != IGNORE).sum())
            nats, targets = nats + float(next_token(model, batch, 1).loss), targets + count
    model.train(training)
    return nats / max(1, targets)


def bits_per_byte(model: Decoder, shards: Documents, length: int, blank: BlankInfilling | None = None, *,
                  tokens: int = TOKENS_PER_BATCH) -> dict[str, float]:
    """Bits per UTF-8 byte of the shards' documents, by language, from so many tokens at once.

    The negative log-likelihood of every token after `<bos>`, the closing `<eos>` included, over the text's bytes. A
    document longer than `length` tokens is read in windows of `length` that do not overlap. blank: of a model trained
    to fill blanks; what follows a window's first token is then the long blank of a [gMASK].
    """
    windows: list[tuple[str, np.ndarray]] = []
    sizes: dict[str, int] = {}
    for index, language in enumerate(shards.languages):
        ids = shards.document(index).astype(np.int64)
        sizes[language] = sizes.get(language, 0) + int(shards.utf8_bytes[index])
        windows += [(language, ids[start : start + length + 1]) for start in range(0, len(ids) - 1, length)]
    windows.sort(key=lambda window: len(window[1]))
    nats = dict.fromkeys(sizes, 0.0)
    training = model.training
    model.eval()
    with torch.no_grad(), bar("bits per byte", len(windows)) as shown:
        while windows:
            width = min(length, -(-(len(windows[-1][1]) - 1) // ALIKE) * ALIKE)  # few shapes are multiplied
            rows = max(1, tokens // width)
            chosen, windows = windows[-rows:], windows[:-rows]
            losses = _losses(model, [ids for _, ids in chosen], width, blank)
            for (language, _), loss in zip(chosen, losses, strict=True):
                nats[language] += loss
            shown.advance(len(chosen))
    model.train(training)
    return {language: nats[language] / math.log(2) / max(1, sizes[language]) for language in sorted(sizes)}


def _losses(model: Decoder, windows: list[np.ndarray], width: int, blank: BlankInfilling | None) -> list[float]:
    """Summed negative log-likelihood of each window's tokens after its first, in nats, read in rows of `width`."""
    inputs = torch.zeros(len(windows), width, dtype=torch.int64)
    real = torch.zeros(len(windows), width, dtype=torch.bool)
    for row, ids in enumerate(windows):
        inputs[row, : len(ids) - 1] = torch.from_numpy(ids[:-1])
        real[row, : len(ids) - 1] = True
    targets = torch.from_numpy(np.concatenate([ids[1:] for ids in windows])).to(model.device)
    if blank is None:
        hidden = model.hidden(inputs.to(model.device))
    else:
        hidden = _as_blank(model, inputs.to(model.device), blank)
    log_probabilities, _ = token_log_probabilities(model, hidden[real.to(model.device)], targets)
    return [-float(part.double().sum()) for part in log_probabilities.split([len(ids) - 1 for ids in windows])]


def _as_blank(model: Decoder, inputs: Tensor, blank: BlankInfilling) -> Tensor:
    """Hidden states [B,T,D] before every token of inputs [B,T] but the first, and after the last: the rows are read as
    first token, [gMASK], then <sop> and the rest."""
    marks = inputs.new_tensor([blank.ids.gmask, blank.ids.sop]).expand(len(inputs), 2)
    rows = torch.cat([inputs[:, :1], marks, inputs[:, 1:]], 1)  # [B,T+2]
    places = torch.arange(rows.shape[1], device=inputs.device).expand_as(rows)
    positions = places.clamp(max=1) if blank.counts_blanks_once else places
    if blank.axes == 2:
        positions = torch.stack([positions, (places - 1).clamp(min=0)], 1)
    intervals = Intervals(torch.zeros_like(places), places.clamp(min=1))
    return model.hidden(rows, intervals, positions)[:, 2:]
