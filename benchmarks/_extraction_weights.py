"""Fits the weights of `headwater/corpus/extraction/boilerplate.py` on half of the labelled pages and prints them.

    python benchmarks/_extraction_weights.py [--pages FOLDER]

A page belongs to the half that is fitted when the SHA-1 of its name is even; the sets whose licence is unclear are
left out of it. A block counts as main text by the share of its tokens, three by three, that its page's label holds.
Every page weighs alike, its blocks by their tokens. What is printed last are the scores on the half that was not seen.
"""

from __future__ import annotations

import numpy as np
from _harness import arguments
from _labelled import PAGES_OPTION, labelled_pages

from headwater.corpus.extraction import boilerplate
from headwater.corpus.extraction.blocks import Page as Blocks
from headwater.corpus.extraction.blocks import join_blocks, read_blocks
from headwater.corpus.extraction.extract import second_opinion, token_f1
from headwater.corpus.judging.length import tokens

NOT_FITTED = "llm_webkit_bench"
PENALTY = 1 / 0.3
"""Half of it times the squared weights is added to the summed log loss."""
Features = dict[str, boilerplate.F64]


def targets(blocks: Blocks, gold: str) -> tuple[boilerplate.F64, boilerplate.F64]:
    """Share of each block that the label holds, and the block's weight; the weights of a page sum to 1."""
    whole, found = "".join(tokens(gold)), boilerplate.opinion_features(blocks, gold)["kept"]
    own = [tokens(block.text) for block in blocks.blocks]
    share = np.array([1.0 if part and "".join(part) in whole else kept if len(part) > 2 else 0.0
                      for part, kept in zip(own, found, strict=True)])
    weight = np.array([min(len(part), 200) ** 0.8 for part in own])
    return share, weight / max(weight.sum(), 1e-9)


def fit(pages: list[Features], labels: list[tuple[boilerplate.F64, boilerplate.F64]]) -> dict[str, float]:
    """Logistic regression by Newton's method, with a penalty on the squares of all weights but the bias."""
    names = list(pages[0])
    columns = np.concatenate([np.stack([features[name] for name in names], 1) for features in pages])
    columns = np.concatenate([np.ones((len(columns), 1)), columns], 1)
    share, weight = (np.concatenate(column) for column in zip(*labels, strict=True))
    weight = weight * len(weight) * 2 / weight.sum()
    penalty = np.diag([0.0] + [PENALTY] * len(names))
    solution = np.zeros(len(names) + 1)
    for _ in range(50):
        guess = 1 / (1 + np.exp(-columns @ solution))
        gradient = columns.T @ (weight * (guess - share)) + penalty @ solution
        curvature = (columns * (weight * guess * (1 - guess))[:, None]).T @ columns + penalty
        step = np.linalg.solve(curvature, gradient)
        solution -= step
        if np.abs(step).max() < 1e-8:
            break
    return {name: round(float(value), 2) for name, value in zip(["bias", *names], solution, strict=True)}


def main() -> None:
    options = arguments(__doc__, PAGES_OPTION)
    pages = [(page, blocks) for page in labelled_pages(options.pages) if (blocks := read_blocks(page.html)).blocks]
    fitted = [(page, blocks) for page, blocks in pages if page.seen and not page.source.startswith(NOT_FITTED)]
    labels = [targets(blocks, page.gold) for page, blocks in fitted]
    own = [boilerplate.block_features(blocks) for _, blocks in fitted]
    block = fit(own, labels)
    context = [boilerplate.context_features(blocks, boilerplate.probability(features, block))
               for features, (_, blocks) in zip(own, fitted, strict=True)]
    both = [{**features, **boilerplate.opinion_features(blocks, second_opinion(page.html))}
            for features, (page, blocks) in zip(context, fitted, strict=True)]
    weights = boilerplate.Weights(block, fit(context, labels), fit(both, labels))
    print(f"WEIGHTS = {weights}")
    for language in ("en", "zh"):
        scores = [token_f1(join_blocks(boilerplate.main_blocks(blocks, weights=weights)), page.gold)
                  for page, blocks in pages if page.language == language and not page.seen]
        print(f"{language}: mean token F1 {np.mean(scores):.3f} on {len(scores)} pages not seen")


if __name__ == "__main__":
    main()
