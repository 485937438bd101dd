"""Which blocks of a page are its main text: two small logistic regressions and the choice of best expected F1.

The first looks at a block, its neighbours and the elements around it (after Kohlschütter et al., "Boilerplate
Detection using Shallow Text Features", WSDM 2010); the second looks at what the first said of the block, its
neighbours and its surroundings, and, where there is one, at another extractor's opinion. Lengths are bytes of UTF-8,
in which a Chinese character (3) and half an English word weigh alike, so that one set of weights serves all languages.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.extraction.blocks import ARTICLE, ASIDE, CHROME, COMMENT, Block, Page
from headwater.corpus.judging.length import tokens

F64 = NDArray[np.float64]


class Weights(NamedTuple):
    """Of the features, by name, with a "bias": of a block itself, of its context, of its context with an opinion."""

    block: dict[str, float]
    context: dict[str, float]
    opinion: dict[str, float]


WEIGHTS = Weights(
    block={"bias": -0.09, "length": -1.09, "short": -0.18, "running": 1.4, "running_before": 0.91, "marks": -1.01,
           "ends": 1.17, "links": -0.75, "links_before": -0.6, "links_around": -0.5, "cell": 1.92, "article": 0.62,
           "aside": -1.59, "chrome": -1.26, "comment": 0.33, "main": 1.76, "position": -0.83},
    context={"bias": -0.35, "odds": 0.93, "likely": -0.38, "outer_mean": -2.11, "outer_share": 1.26, "likely_-2": 0.8,
             "likely_-1": 0.76, "likely_+1": 0.56, "likely_+2": 0.25},
    opinion={"bias": -0.75, "odds": 0.91, "likely": -1.42, "outer_mean": -2.15, "outer_share": 0.64, "likely_-2": 0.91,
             "likely_-1": 0.12, "likely_+1": 0.16, "likely_+2": 0.22, "kept": 2.0, "kept_-1": 0.63, "kept_+1": 0.37,
             "kept_page": 0.05})
"""Fitted by `python benchmarks/_extraction_weights.py`, which prints them, on one half of the labelled pages; which
features there are was chosen within that half too."""
SHARPNESS = 1.5
"""Probabilities are raised to this power before the choice: above 1 it leaves out more of the doubtful blocks."""
_MARK = re.compile(r"[,.;:!?，。！？；：、…]")
_ENDS = tuple(".!?。！？…”’\"';；:：")
_CELLS = ("td", "th")
_MAIN_SHARE = 0.6
"""The main element is found by going down while one child holds this share of the running text."""


def main_blocks(page: Page, opinion: str | None = None, *, comments: bool = False,
                weights: Weights = WEIGHTS) -> list[Block]:
    """The blocks of the page's main text, in order; at least one where there is any.

    `opinion` is the main text that another extractor found. `comments` keeps readers' comments below an article;
    replies that are most of a page (a forum's) are no comments and stay.
    """
    if not page.blocks:
        return []
    context = context_features(page, probability(block_features(page, comments=comments), weights.block))
    if opinion is None:
        likely = probability(context, weights.context)
    else:
        likely = probability({**context, **opinion_features(page, opinion)}, weights.opinion)
    if not comments:
        likely = likely * ~_readers_comments(page)
    return [block for block, kept in zip(page.blocks, chosen(likely**SHARPNESS, _sizes(page)), strict=True) if kept]


def probability(features: dict[str, F64], weights: dict[str, float]) -> F64:
    """Of each block to be main text; `weights` name the features [blocks] that count, and "bias"."""
    total = sum((features[name] * weight for name, weight in weights.items() if name != "bias"), weights["bias"])
    return 1 / (1 + np.exp(-np.asarray(total)))


def chosen(likely: F64, sizes: F64) -> NDArray[np.bool_]:
    """The set of blocks with the highest expected F1 (over bytes), given each block's probability [blocks]."""
    order = np.argsort(-likely, kind="stable")
    gained = np.cumsum((likely * sizes)[order])
    f1 = 2 * gained / (np.cumsum(sizes[order]) + gained[-1])
    return likely >= likely[order[int(np.argmax(f1))]]


def block_features(page: Page, *, comments: bool = False) -> dict[str, F64]:
    """What the first regression sees of every block, by name, each [blocks]."""
    blocks, parents = page.blocks, np.array(page.parents)
    sizes, links = _sizes(page), np.array([block.link_bytes for block in blocks], float)
    hints = np.array([block.hints & ~COMMENT if comments else block.hints for block in blocks])
    marks = np.array([len(_MARK.findall(block.text)) for block in blocks], float)
    element = np.array([block.element for block in blocks])
    link_share, plain = links / sizes, sizes - links
    running = plain * np.minimum(1, marks / (plain / 60 + 0.5)) * (link_share < 0.5)
    code = np.array([block.tag == "pre" for block in blocks])
    running = np.where(code, np.maximum(running, plain / 2), running)
    within = _sums(element, running, page.parents)
    grandparent = parents[parents[element]]
    linked, whole = _sums(element, links, page.parents), _sums(element, sizes, page.parents)
    comment = hints & COMMENT > 0
    return {
        "length": np.log1p(sizes) / 5, "short": (sizes < 25) * 1.0,
        "running": np.log1p(running) / 5, "running_before": _shift(np.log1p(running) / 5, 1),
        "marks": np.minimum(1, marks * 20 / sizes),
        "ends": np.array([block.text.endswith(_ENDS) for block in blocks], float),
        "links": link_share, "links_before": _shift(link_share, 1),
        "links_around": linked[grandparent] / np.maximum(1, whole[grandparent]),
        "cell": np.array([block.tag in _CELLS for block in blocks], float),
        "article": (hints & ARTICLE > 0) * 1.0, "aside": (hints & ASIDE > 0) * 1.0,
        "chrome": (hints & CHROME > 0) * 1.0,
        "comment": comment * (running[comment].sum() / max(1.0, running.sum())),
        "main": _inside(_main_element(within, page.parents), page.parents)[element],
        "position": np.cumsum(sizes) / sizes.sum(),
    }


def context_features(page: Page, likely: F64) -> dict[str, F64]:
    """What the second regression sees of every block: the first one's probabilities of it and around it."""
    parents, element = np.array(page.parents), np.array([block.element for block in page.blocks])
    sizes = _sizes(page)
    expected = _sums(element, sizes * likely, page.parents)
    whole = _sums(element, sizes, page.parents)
    outer = parents[parents[parents[element]]]
    return {"odds": np.log(likely + 1e-9) - np.log(1 - likely + 1e-9), "likely": likely,
            "outer_mean": expected[outer] / np.maximum(1, whole[outer]), "outer_share": expected[outer] / expected[0],
            **{f"likely_{step:+d}": _shift(likely, -step) for step in (-2, -1, 1, 2)}}


def opinion_features(page: Page, opinion: str) -> dict[str, F64]:
    """How much of each block's tokens (in threes) another extractor kept: of it, its neighbours and the page."""
    found = tokens(opinion)
    singles, threes = set(found), set(zip(found, found[1:], found[2:], strict=False))
    kept = np.array([_share(tokens(block.text), singles, threes) for block in page.blocks])
    sizes = _sizes(page)
    return {"kept": kept, "kept_-1": _shift(kept, 1), "kept_+1": _shift(kept, -1),
            "kept_page": np.full(len(kept), (kept * sizes).sum() / sizes.sum())}


def _readers_comments(page: Page) -> NDArray[np.bool_]:
    """The blocks in elements named as comments [blocks]; none where they are most of what is no link."""
    plain = _sizes(page) - np.array([block.link_bytes for block in page.blocks], float)
    named = np.array([block.hints & COMMENT > 0 for block in page.blocks])
    return named if plain[named].sum() < plain.sum() / 2 else np.zeros_like(named)


def _share(found: list[str], singles: set[str], threes: set[tuple[str, str, str]]) -> float:
    if len(found) < 3:
        return sum(token in singles for token in found) / max(1, len(found))
    return sum(three in threes for three in zip(found, found[1:], found[2:], strict=False)) / (len(found) - 2)


def _sizes(page: Page) -> F64:
    return np.array([block.bytes for block in page.blocks], float)


def _sums(element: NDArray[np.int64], values: F64, parents: list[int]) -> F64:
    """Of the values of all blocks inside each element [elements]."""
    total = np.bincount(element, values, len(parents)).tolist()
    for place in range(len(parents) - 1, 0, -1):
        total[parents[place]] += total[place]
    return np.array(total)


def _main_element(running: F64, parents: list[int]) -> int:
    """Down from the root, as long as one child holds most of the running text."""
    amounts = running.tolist()
    heaviest = [0] * len(parents)
    for place in range(1, len(parents)):
        best = heaviest[parents[place]]
        if amounts[place] > (amounts[best] if best else 0.0):
            heaviest[parents[place]] = place
    main = 0
    while heaviest[main] and amounts[heaviest[main]] >= _MAIN_SHARE * amounts[main]:
        main = heaviest[main]
    return main


def _inside(root: int, parents: list[int]) -> F64:
    """1 for the element and all within it, 0 elsewhere [elements]."""
    inside = [0.0] * len(parents)
    inside[root] = 1.0
    for place in range(root + 1, len(parents)):
        inside[place] = inside[parents[place]]
    return np.array(inside)


def _shift(values: F64, steps: int) -> F64:
    """values[i - steps] at i; 0 beyond the ends."""
    moved = np.zeros(len(values))
    if abs(steps) < len(values):
        if steps > 0:
            moved[steps:] = values[:-steps]
        else:
            moved[:steps] = values[-steps:]
    return moved
