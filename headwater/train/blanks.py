"""GLM's autoregressive blank infilling: parts of a text are blanked out and generated after it, each from all of the
rest and the blanks before it (2103.10360; the figures are those of the official code)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from headwater.errors import InputError, SettingsError
from headwater.settings import Settings
from headwater.tokenizer import Tokenizer
from headwater.train.batches import IGNORE, Ints, Sample
from headwater.train.layouts import Piece
from headwater.train.sentences import SentenceEnds

LONGEST_SPAN = 39
TOKEN, SENTENCE, DOCUMENT = range(3)
"""Kinds of rows."""


class GlmIds(NamedTuple):
    """Ids of the marks: [MASK], [sMASK], [gMASK], <sop> and <eop>."""

    mask: int
    smask: int
    gmask: int
    sop: int
    eop: int


_SPELLINGS = {"mask": ("[MASK]",), "smask": ("[sMASK]",), "gmask": ("[gMASK]",),
              "sop": ("<sop>", "sop", "<|startofpiece|>"), "eop": ("<eop>", "eop", "<|endofpiece|>")}
"""How the tokenizers of the family write them."""


def glm_ids(tokenizer: Tokenizer) -> GlmIds:
    """The marks' ids. Raises `InputError` for a tokenizer that lacks one."""
    found = {}
    for mark, spellings in _SPELLINGS.items():
        ids = [tokenizer.specials[spelling] for spelling in spellings if spelling in tokenizer.specials]
        if not ids:
            raise InputError(f"blank infilling needs {spellings[0]}, which the tokenizer lacks", where="objective.name",
                             fix="give a tokenizer of the GLM family, or one that this version trained")
        found[mark] = ids[0]
    return GlmIds(**found)


class GlmSettings(Settings):
    """What is blanked out. The defaults are GLM-10B's; GLM-130B takes token_share 0.3, sentence_share 0,
    document_share 0.7 and window 512 (in rows of 2,048 tokens)."""

    token_share: float = Field(default=0.5, ge=0, le=1)
    """Of the rows: short spans, as [MASK]."""
    sentence_share: float = Field(default=0.3, ge=0, le=1)
    """Of the rows: whole sentences, as [sMASK]."""
    document_share: float = Field(default=0.2, ge=0, le=1)
    """Of the rows: one long span, as [gMASK]."""
    masked_share: float = Field(default=0.15, gt=0, le=0.25)
    """Of a text's tokens: spans or sentences are drawn until they are so many. Up to a quarter all spans find room."""
    span_lambda: float = Field(default=3.0, gt=0, le=20)
    """Of the Poisson distribution that the lengths of short spans, 1 to 39, are drawn from."""
    shortest_document_span: float = Field(default=0.5, ge=0, lt=1)
    """Of a text's tokens; the long span's length is uniform from this share on. GLM-10B was trained with 0.25."""
    inner_document_share: float = Field(default=0.5, ge=0, le=1)
    """Of the long spans, those that lie anywhere in the text; the others end it."""
    end_of_piece: bool = False
    """Whether <eop> follows a long span that ends its text, as it follows all others."""
    window: int = Field(default=0, ge=0)
    """Rows of short spans: tokens of a sample at most, so that a row holds several; 0: as long as the row."""
    positions: Literal["auto", "running", "blank"] = "auto"
    """Of models with one position a token. running: blanks count on where the text ends, as ChatGLM2 reads them.
    blank: each of their tokens has its mask's position. auto: running, and two numbers where the model takes two."""

    @model_validator(mode="after")
    def _possible(self) -> GlmSettings:
        shares = self.token_share + self.sentence_share + self.document_share
        if abs(shares - 1) > 1e-6:
            raise ValueError(f"token_share, sentence_share and document_share sum to {shares:g}, not to 1")
        if self.window and not self.token_share:
            raise ValueError("window is for rows of short spans, of which token_share 0 leaves none")
        if 0 < self.window < 32:
            raise ValueError(f"a window of {self.window} tokens has no room for spans; give at least 32")
        return self


class Blanks(NamedTuple):
    """Spans of a text, in the order in which they are generated."""

    starts: Ints
    sizes: Ints
    mark: int
    """What stands for each of them."""
    end: int
    """Target after the last token of each."""


class BlankInfilling:
    """Every piece of a row as a sample of its own: part A, the text with a mark for each blank, read both ways and
    blind to part B; then part B, the blanks in random order, each <sop> and its tokens, which sees part A and what
    comes before in part B.

    Losses are taken in part B alone, where each token asks for the next and the last one for <eop>. Positions of two
    numbers are those of GLM: the place in part A, which for a blank is that of its mark; and 0 in part A, 1 at <sop>
    and counting on inside a blank. A piece too short for its row's kind (no span fits, or no sentence ends within it)
    is a document-level sample, one of a single token is context without a loss, and so is what finds no room for marks.
    A long span's last token stands in the row though nothing may be asked of it, so that a row holds all of its text.

    Raises `SettingsError` for settings that do not fit the model's positions, and where sentences are to be blanked out
    but nothing tells where they end.
    """

    def __init__(self, settings: GlmSettings, ids: GlmIds, *, axes: int, sentences: SentenceEnds | None = None) -> None:
        if axes == 2 and settings.positions != "auto":
            raise SettingsError(f"positions '{settings.positions}' is for models with one position a token, this one "
                                "has two", fix="set positions=auto")
        if settings.sentence_share and sentences is None:
            raise SettingsError("sentence_share needs to know where sentences end",
                                fix="give SentenceEnds.of(tokenizer), or set sentence_share=0")
        self.settings, self.ids, self.axes, self.sentences = settings, ids, axes, sentences
        self.shares = settings.token_share, settings.sentence_share, settings.document_share
        lengths = np.arange(1, LONGEST_SPAN + 1)
        chances = np.exp(lengths * math.log(settings.span_lambda) - [math.lgamma(k + 1) for k in lengths.tolist()])
        self._cumulative = np.cumsum(chances) / chances.sum()
        self._mean_span = float((chances * lengths).sum() / chances.sum())

    def samples(self, pieces: Sequence[Piece], kind: int, room: int, draw: np.random.Generator) -> list[Sample]:
        """See `Layout.samples`; every blank takes two tokens of the room, its mark and <sop>."""
        samples = []
        windowed = kind == TOKEN and self.settings.window > 0
        for piece in self._windows(pieces) if windowed else pieces:
            size = len(piece.ids)
            own = min(room, max(0, self.settings.window - size)) if windowed else room
            blanks = self._blanks(piece, kind, own // 2, draw)
            room -= 2 * len(blanks.starts)
            samples.append(self._sample(piece, blanks))
        return samples

    def _windows(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Pieces in equal parts short enough for a window: with a quarter more spans than the mean they fill it."""
        settings, windows = self.settings, []
        most = int(settings.window / (1 + 2.5 * settings.masked_share / self._mean_span))
        for piece in pieces:
            cuts = np.linspace(0, len(piece.ids), -(-len(piece.ids) // most) + 1).astype(int).tolist()
            windows += [Piece(piece.ids[begin:end], IGNORE, piece.place + begin, piece.opens and begin == 0)
                        for begin, end in pairwise(cuts)]
        return windows

    def _blanks(self, piece: Piece, kind: int, most: int, draw: np.random.Generator) -> Blanks:
        size, ids, none = len(piece.ids), self.ids, np.zeros(0, dtype=np.int64)
        if most < 1 or size < 2:
            return Blanks(none, none, ids.gmask, ids.eop)
        wanted = int(self.settings.masked_share * size)
        if kind == TOKEN and wanted:
            return Blanks(*self._spans(size, wanted, most, draw), ids.mask, ids.eop)
        if kind == SENTENCE:
            starts, sizes = self._sentences(piece, wanted, most, draw)
            if len(starts):
                return Blanks(starts, sizes, ids.smask, ids.eop)
        return self._long_span(size, draw)

    def _spans(self, size: int, wanted: int, most: int, draw: np.random.Generator) -> tuple[Ints, Ints]:
        """Short spans, `wanted` tokens or more in all, at least one token apart; all placements are equally likely.

        A span is half of the text at most, which alters the lengths in texts of less than 78 tokens alone.
        """
        sizes = np.zeros(0, dtype=np.int64)
        while sizes.sum() < wanted:
            drawn = np.searchsorted(self._cumulative[:-1], draw.random(8 + wanted // 2), side="right") + 1
            sizes = np.append(sizes, np.minimum(drawn, size // 2))
        count = int(np.searchsorted(np.cumsum(sizes), wanted)) + 1
        sizes = draw.permutation(sizes[:count])[:most]  # as drawn the last one would tend to be long
        # Each gap between the tokens that stay, and either end, takes one span at most.
        gaps = np.sort(draw.choice(size - int(sizes.sum()) + 1, len(sizes), replace=False, shuffle=False))
        starts = gaps + np.cumsum(sizes) - sizes
        order = draw.permutation(len(sizes))
        return starts[order], sizes[order]

    def _sentences(self, piece: Piece, wanted: int, most: int, draw: np.random.Generator) -> tuple[Ints, Ints]:
        """Whole sentences in random order, `wanted` tokens or more where that leaves any token; maybe none."""
        assert self.sentences is not None
        stops = np.flatnonzero(self.sentences.after(piece.ids)) + 1
        starts = np.concatenate([[0], stops[:-1]]) if len(stops) else stops
        if not piece.opens:  # begins amid a sentence
            starts, stops = starts[1:], stops[1:]
        order = draw.permutation(len(starts))
        sizes = (stops - starts)[order]
        total = np.cumsum(sizes)
        count = min(most, len(sizes), int(np.searchsorted(total, wanted)) + 1)
        if count and total[count - 1] == len(piece.ids):
            count -= 1
        return starts[order][:count], sizes[:count]

    def _long_span(self, size: int, draw: np.random.Generator) -> Blanks:
        shortest = max(1, min(size - 1, math.ceil(self.settings.shortest_document_span * size)))
        length = int(draw.integers(shortest, size))
        inner = draw.random() < self.settings.inner_document_share
        start = int(draw.integers(0, size - length + 1)) if inner else size - length
        end = self.ids.eop if inner or self.settings.end_of_piece else IGNORE
        return Blanks(np.array([start]), np.array([length]), self.ids.gmask, end)

    def _sample(self, piece: Piece, blanks: Blanks) -> Sample:
        size, (starts, sizes) = len(piece.ids), blanks[:2]
        widths = sizes + 1  # <sop> and the blank
        blank = np.repeat(np.arange(len(sizes)), widths)
        inside = np.arange(len(blank)) - np.repeat(np.cumsum(widths) - widths, widths)  # 0 at <sop>
        source = starts[blank] + inside - 1  # in the piece; of no meaning at <sop>
        opens, ends = inside == 0, inside == sizes[blank]

        kept = np.ones(size, dtype=bool)
        kept[source[~opens]] = False
        kept[starts] = True
        text, places = piece.ids.copy(), piece.place + np.arange(size)
        text[starts], places[starts] = blanks.mark, -1
        homes = (np.cumsum(kept) - 1)[starts]
        context = int(kept.sum())

        following = np.minimum(source + 1, size - 1)
        return Sample(np.append(text[kept], np.where(opens, self.ids.sop, piece.ids[source])),
                      np.append(np.full(context, IGNORE), np.where(ends, blanks.end, piece.ids[following])),
                      self._positions(context, homes[blank], inside),
                      np.append(np.full(context, context - 1), context + np.arange(len(blank))),
                      np.append(places[kept], np.where(opens, -1, piece.place + source)))

    @property
    def counts_blanks_once(self) -> bool:
        """Whether every token of a blank has its mark's position, or they count on where the text ends."""
        return self.axes == 2 or self.settings.positions == "blank"

    def _positions(self, context: int, homes: Ints, inside: Ints) -> Ints:
        if not self.counts_blanks_once:
            return np.arange(context + len(homes))[None]
        text = np.append(np.arange(context), homes)
        return text[None] if self.axes == 1 else np.stack([text, np.append(np.zeros(context, dtype=np.int64),
                                                                           inside + 1)])
