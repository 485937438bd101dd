"""How often each document is written: groups brought to target shares, whole epochs and a drawn rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from rich.table import Table

from headwater.settings import Settings

F64 = NDArray[np.float64]
_TOLERANCE = 0.02


class MixSettings(Settings):
    """What the training split is made of. Nothing set: every document once."""

    by: Literal["source", "language"] = "source"
    """What a share is a share of: the sources by name, or the languages."""
    shares: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Target share of the tokens for each group, on any scale: {books: 1, web: 3}, or with by=language {en: 1, zh: 1};
    a group without one is left out."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Instead of `shares`: a group's share follows its tokens to the power 1/temperature (1 as it is, larger: more
    even)."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens wanted in all; when not set as many as let the group that is scarcest for its share come once."""
    max_epochs: Annotated[float, Field(gt=0, le=100)] = 4.0
    """No group is repeated more often (Muennighoff et al. 2023: up to four epochs are about as good as new text)."""
    score_power: Annotated[float, Field(ge=0, le=8)] = 0.0
    """Within a group a document comes in proportion to its quality score to this power; 0 ignores the score."""

    @model_validator(mode="after")
    def _one_way(self) -> MixSettings:
        if self.shares is not None and self.temperature is not None:
            raise ValueError("give shares or temperature, not both")
        return self


@dataclass(frozen=True)
class Share:
    """One group of the mix: what there is, what was wanted, what is written: `share` of the written tokens, `epochs`
    times its own."""

    group: str
    documents: int
    tokens: int
    target: float
    share: float
    epochs: float
    written_documents: int
    written_tokens: int


def copies(settings: MixSettings, groups: NDArray[np.int32], names: list[str], tokens: NDArray[np.int64],
           scores: F64, draw: F64) -> tuple[NDArray[np.int16], list[Share]]:
    """How often each document [N] is written, and the table of the groups.

    `groups` [N] numbers `names`, `draw` [N] in [0, 1) decides the rest of a fractional rate: the same document, the
    same draw, so a larger target keeps what a smaller one has. Raises `ValueError` for a share of an unknown group.
    """
    found = {name: np.flatnonzero(groups == code) for code, name in enumerate(names) if (groups == code).any()}
    available = {name: int(tokens[rows].sum()) for name, rows in found.items()}
    targets = _targets(settings, available)
    rates = _rates(settings, available, targets)
    result = np.zeros(len(groups), np.int16)
    written = {}
    for name, rows in found.items():
        wanted = rates[name] * _relative(scores[rows], tokens[rows], settings.score_power)
        wanted = np.minimum(wanted, max(settings.max_epochs, rates[name]))
        whole = np.floor(wanted)
        result[rows] = whole + (draw[rows] < wanted - whole)
        written[name] = int((tokens[rows] * result[rows]).sum())
    total = max(1, sum(written.values()))
    table = [Share(name, len(rows), available[name], targets[name], written[name] / total,
                   written[name] / max(1, available[name]), int(result[rows].sum()), written[name])
             for name, rows in found.items()]
    return result, sorted(table, key=lambda share: (-share.target, share.group))


def shortfall(settings: MixSettings, shares: list[Share]) -> str:
    """What of the wanted tokens and target shares is not there, and why; empty where the mix is as wanted (within two
    points, or two hundredths of the tokens)."""
    told = [f"{share.group} is {share.share:.1%} of the tokens, not {share.target:.1%}" for share in shares
            if abs(share.share - share.target) > _TOLERANCE]
    total = sum(share.written_tokens for share in shares)
    if settings.tokens is not None and abs(total - settings.tokens) > _TOLERANCE * settings.tokens:
        told.append(f"{total:,} tokens are written, not {settings.tokens:,}")
    if not told:
        return ""
    bound = [share.group for share in shares if share.epochs > settings.max_epochs - _TOLERANCE]
    why = (f"{', '.join(bound)} may come {settings.max_epochs:g} times at most (mix.max_epochs)" if bound else
           "documents are drawn whole, and these are few" if not settings.score_power else
           "no document comes more often than mix.max_epochs, and few have the high scores")
    return f"{'; '.join(told)}: {why}"


def _targets(settings: MixSettings, available: dict[str, int]) -> dict[str, float]:
    if settings.shares is not None:
        unknown = sorted(set(settings.shares) - set(available))
        if unknown:
            raise ValueError(f"no documents of '{unknown[0]}' (there are: {', '.join(sorted(available))})")
        weights = {name: settings.shares.get(name, 0.0) for name in available}
    else:
        power = 1 / settings.temperature if settings.temperature is not None else 1.0
        largest = max([1, *available.values()])
        weights = {name: (count / largest) ** power for name, count in available.items()}
    total = sum(weights.values()) or 1.0  # 0 where no document has a token
    return {name: weight / total for name, weight in weights.items()}


def _rates(settings: MixSettings, available: dict[str, int], targets: dict[str, float]) -> dict[str, float]:
    """Epochs of each group."""
    once = {name: available[name] / share for name, share in targets.items() if share and available[name]}
    wanted = settings.tokens if settings.tokens is not None else min(once.values(), default=0)
    return {name: min(settings.max_epochs, wanted * share / available[name]) if available[name] else 0.0
            for name, share in targets.items()}


def _relative(scores: F64, tokens: NDArray[np.int64], power: float) -> F64:
    """Weights of a group's documents whose mean, by tokens, is one."""
    if not power:
        return np.ones(len(scores))
    weights = np.maximum(scores, 1e-6) ** power
    return weights * tokens.sum() / max(1e-12, float((weights * tokens).sum()))


def mix_table(shares: list[Share]) -> Table:
    """The composition as a rich table."""
    table = Table(title="Composition of the training split")
    for heading in ("group", "documents", "tokens", "target", "epochs", "tokens written", "share"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for share in shares:
        table.add_row(share.group, f"{share.documents:,}", f"{share.tokens:,}", f"{share.target:.1%}",
                      f"{share.epochs:.2f}", f"{share.written_tokens:,}", f"{share.share:.1%}")
    return table
