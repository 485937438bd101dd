"""Which solved examples stay where a prompt is longer than a model reads: what the official scripts do.

lm-evaluation-harness does none of it: it cuts the beginning off, and with it the instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from headwater.evaluate.benchmarks.definition import Dropped


def shots_that_fit(tokens: Sequence[int], room: int, dropped: Dropped) -> tuple[int, ...]:
    """Places of the examples that stay.

    tokens: of each example; room: tokens left for all of them beside instruction and question. last: whole examples
    from the end until the rest fits (MMLU's evaluate.py). longest: the longest, and all that are as long, until less
    than the room is filled (CMMLU's mp_utils.py). none: all stay (C-Eval's evaluators leave it to the model).
    """
    kept = list(range(len(tokens)))
    if dropped == "last":
        while kept and sum(tokens[place] for place in kept) > room:
            kept.pop()
    elif dropped == "longest":
        while kept and sum(tokens[place] for place in kept) >= room:
            longest = max(tokens[place] for place in kept)
            kept = [place for place in kept if tokens[place] < longest]
    return tuple(kept)
