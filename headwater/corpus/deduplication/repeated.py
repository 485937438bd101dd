"""Sentences that many documents share (boilerplate, quoted blocks): found across documents, fuzzily, and cut out."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from headwater.corpus.deduplication.alignment import WIDTH, alignment_from, conserved, token_bytes
from headwater.corpus.deduplication.clusters import RANGE_DOCUMENTS, key_ranges, representatives
from headwater.corpus.deduplication.minhash import (
    I64,
    U8,
    U32,
    U64,
    fold_bands,
    minimums,
    ngrams,
    sequence_hashes,
    token_hashes,
)
from headwater.corpus.deduplication.sentences import split
from headwater.corpus.judging.length import HAN
from headwater.settings import Seed, Settings

KEPT, REPEATED, COMPANION = 0, 1, 2
"""Verdicts: a companion is repeated too, but so short that it goes only with a repeated neighbour."""
NGRAM, BANDS, ROWS = 2, 24, 3
CONSERVED = 0.8
"""Copies have at least this share of their tokens in common with half of the others."""
_SHORTEST = 2
_FIGURES = re.compile(r"\d+(?:[.,:]\d+)*|[〇零一二三四五六七八九十百千万亿]{2,}")
_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s\u3000-\uffef]+|\]\([^)\s]*\)")
_HAN = re.compile(f"[{HAN}]")


class SentenceSettings(Settings):
    """Sentences shared by many documents are cut from all of them; the rest of each document stays as it is.

    Never cut: headings, code, table rows, sentences shorter than the minimum unless they stand beside one that is
    cut, and what one document repeats by itself (a refrain counts once).
    """

    documents: Annotated[int, Field(ge=2)] = 4
    """From how many documents on a sentence counts as repeated."""
    min_words: Annotated[int, Field(ge=1)] = 7
    """Shortest sentence judged, in words of alphabetic scripts."""
    min_han: Annotated[int, Field(ge=1)] = 12
    """Shortest sentence judged, in Han characters; a mixed sentence adds up its shares of both."""
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of words and Han characters that two copies have in common in the same order; 1 for equal ones only."""
    numbers: bool = True
    """Sentences in whose figures fewer than half of the documents agree are kept, and short ones with any: facts."""
    keep: Literal["none", "first"] = "none"
    """Whether the first document that holds a repeated sentence keeps it."""
    block_share: Annotated[float, Field(gt=0, le=1)] = 0.95
    """From what share of its characters on a repeated paragraph goes as a whole."""
    seed: Seed = 1
    """Of the hash functions."""


class SentenceKeys(NamedTuple):
    """What is stored of the S sentences of some documents, in order.

    `exact` [S] hashes the tokens (0: never cut), `keys` [S, 24] are band keys (0: not judged, too short), `sketch`
    [S, 64] are the tokens, a byte each, to verify by, `figures` [S] hashes the figures, their number in the low byte
    (0: none); `bounds` [documents + 1]: document i owns sentences bounds[i] to bounds[i + 1] of `split`.
    """

    exact: U64
    keys: U64
    sketch: U8
    figures: U32
    bounds: I64


def sentence_keys(texts: list[str], settings: SentenceSettings) -> SentenceKeys:
    """The keys of every sentence of every text, web addresses in them aside; equal in whatever company."""
    parts = [split(text) for text in texts]
    bounds = np.concatenate([[0], np.cumsum([len(found) for found in parts])]).astype(np.int64)
    sentences = [_words(text[part.start:part.end]) if part.kind == "prose" else ""
                 for text, found in zip(texts, parts) for part in found]
    tokens, token_bounds = token_hashes(sentences)
    counts = np.diff(token_bounds)
    exact = sequence_hashes(tokens, token_bounds) * (counts >= _SHORTEST)
    keys = np.zeros((len(sentences), BANDS), np.uint64)
    sketch = np.zeros((len(sentences), WIDTH), np.uint8)
    figures = np.zeros(len(sentences), np.uint32)
    judged = _judged(sentences, counts, settings)
    if settings.numbers:
        short = np.setdiff1d(np.flatnonzero(exact), judged)
        exact[[index for index in short if _FIGURES.search(sentences[index])]] = 0
    if len(judged) and settings.similarity < 1:
        chosen = _chosen(tokens, token_bounds, judged)
        keys[judged] = fold_bands(minimums(*ngrams(*chosen, NGRAM), BANDS * ROWS, settings.seed), ROWS).T
        sketch[judged] = token_bytes(*chosen)
        if settings.numbers:
            figures[judged] = [_figures(sentences[index]) for index in judged]
    elif len(judged):
        keys[judged, 0] = exact[judged]
    return SentenceKeys(exact, keys, sketch, figures, bounds)


def _words(sentence: str) -> str:
    """The sentence without web addresses."""
    return _ADDRESS.sub(" ", sentence) if "/" in sentence or "www." in sentence or "](" in sentence else sentence


def _judged(sentences: list[str], counts: I64, settings: SentenceSettings) -> I64:
    """Indices of the sentences long enough to be judged."""
    han = np.array([0 if sentence.isascii() else len(_HAN.findall(sentence)) for sentence in sentences], np.int64)
    return np.flatnonzero((counts - han) / settings.min_words + han / settings.min_han >= 1)


def _chosen(tokens: U64, bounds: I64, chosen: I64) -> tuple[U64, I64]:
    """Tokens and bounds of the chosen sentences alone."""
    wanted = np.zeros(len(bounds) - 1, np.bool_)
    wanted[chosen] = True
    counts = np.diff(bounds)
    return tokens[np.repeat(wanted, counts)], np.concatenate([[0], np.cumsum(counts[chosen])])


def _figures(sentence: str) -> int:
    found = _FIGURES.findall(unicodedata.normalize("NFKC", sentence))
    return zlib.crc32(" ".join(found).encode()) & 0xFFFFFF00 | min(len(found), 255) if found else 0


def verdicts(exact: U64, documents: I64, figures: U32, columns: Callable[[int], U64], sketches: Callable[[I64], U8],
             settings: SentenceSettings, *, range_sentences: int = RANGE_DOCUMENTS) -> U8:
    """KEPT, REPEATED or COMPANION for each of S sentences of all documents, in order.

    `exact` and `figures` [S] as in `SentenceKeys`; `documents` [S], ascending, numbers the document of each; `columns`
    gives the keys [S] of the band asked for, `sketches` the sketches of the sentences asked for. Equal sentences are
    one; different ones meet as documents do (`representatives`), the more frequent standing for the rarer, and belong
    together when their tokens align. A cluster's sentences are repeated when it spans `settings.documents` documents,
    is no pattern filled with other words each time (`conserved`), and most documents agree in its figures. Memory:
    about 100 bytes per sentence, beside the sketches, and 400 per cluster that spans so many documents.
    """
    same, first = _equal_sentences(exact, range_sentences)
    spread = _documents_of(same, documents, len(first))
    result = np.where((spread >= settings.documents)[same] & (exact != 0), COMPANION, KEPT).astype(np.uint8)
    judged = columns(0)[first] != 0
    cluster = np.arange(len(first))
    if settings.similarity < 1:
        def sequences(wordings: I64) -> U8:
            return sketches(first[wordings])

        cluster = representatives((columns(band)[first] for band in range(BANDS)), alignment_from(sequences), spread,
                                  settings.similarity, join=True, drift=1,
                                  range_documents=range_sentences).representative
        cluster = _without_patterns(cluster, spread, sequences, settings.documents)
    odd = _odd_figures(cluster, figures[first], spread) if settings.numbers else np.zeros(len(first), np.int64)
    cluster = cluster[same]
    spread = _documents_of(cluster, documents, len(first))
    repeated = (spread >= settings.documents) & (2 * odd <= spread)
    result[judged[same] & repeated[cluster]] = REPEATED
    if settings.keep == "first":
        earliest = np.full(len(first), np.iinfo(np.int64).max)
        np.minimum.at(earliest, cluster, documents)
        result[earliest[cluster] == documents] = KEPT
    return result


def _without_patterns(cluster: I64, spread: I64, sequences: Callable[[I64], U8], least: int) -> I64:
    """The clusters [N] of wordings, each that is a pattern filled with ever different words taken apart again."""
    large = np.bincount(cluster, spread, len(cluster)) >= least
    members = np.flatnonzero(large[cluster])
    place = np.searchsorted(members, cluster[members])
    roots, share = conserved(place, spread[members], lambda rows: sequences(members[rows]))
    pattern = np.zeros(len(cluster), np.bool_)
    pattern[members[roots[share < CONSERVED]]] = True
    return np.where(pattern[cluster], np.arange(len(cluster)), cluster)


def _equal_sentences(exact: U64, most: int) -> tuple[I64, I64]:
    """For each sentence the number of its wording, and for each wording the sentence where it stands first."""
    same, first, count = np.zeros(len(exact), np.int64), [], 0
    silent = np.flatnonzero(exact == 0)
    for members in key_ranges(exact, most):
        _, places, inverse = np.unique(exact[members], return_index=True, return_inverse=True)
        same[members] = count + inverse
        first.append(members[places])
        count += len(places)
    same[silent] = count
    return same, np.concatenate([*first, silent[:1]]).astype(np.int64)


def _odd_figures(groups: I64, figures: U32, weights: I64) -> I64:
    """How many documents of each group [N] have other figures than most of it; figureless ones agree with all."""
    stated = np.flatnonzero(figures)
    order = np.lexsort((figures[stated], groups[stated]))
    group, figure = groups[stated][order], figures[stated][order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (group[1:] != group[:-1]) | (figure[1:] != figure[:-1])
    agreeing = np.bincount(np.cumsum(new) - 1, weights[stated][order]).astype(np.int64)
    commonest = np.zeros(len(groups), np.int64)
    np.maximum.at(commonest, group[new], agreeing)
    return np.bincount(groups[stated], weights[stated], len(groups)).astype(np.int64) - commonest


def _documents_of(groups: I64, documents: I64, count: int) -> I64:
    """In how many different documents each group of sentences stands."""
    order = np.argsort(groups, kind="stable")
    groups, documents = groups[order], documents[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (groups[1:] != groups[:-1]) | (documents[1:] != documents[:-1])
    return np.bincount(groups[new], minlength=count)
