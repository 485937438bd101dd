"""L2-regularised logistic regression on hashed n-grams: sparse rows and their fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headwater.corpus.classifying.ngrams import FeatureSettings, ngrams

F32 = NDArray[np.float32]
_BATCH = 64


@dataclass(frozen=True)
class Rows:
    """A sparse matrix [N, 2^bits]: row i holds values[bounds[i]:bounds[i+1]] in columns[bounds[i]:bounds[i+1]]."""

    columns: NDArray[np.int32]
    values: F32
    bounds: NDArray[np.int64]

    def times(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows times a weight vector: [N]."""
        products = np.append(np.zeros(1), np.cumsum(self.values * weights[self.columns], dtype=np.float64))
        totals: NDArray[np.float64] = products[self.bounds[1:]] - products[self.bounds[:-1]]
        return totals

    def transposed_times(self, residuals: NDArray[np.float64], width: int) -> NDArray[np.float64]:
        """The transposed rows times one number per row: [width]."""
        return np.bincount(self.columns, self.values * np.repeat(residuals, np.diff(self.bounds)), width).astype(
            np.float64, copy=False)


def sparse_rows(texts: list[str], settings: FeatureSettings) -> Rows:
    """Bucket counts of each text over the square root of its number of n-grams, as `linear.Classifier` scores them."""
    columns, values, lengths = [], [], []
    for at in range(0, len(texts), _BATCH):
        batch = texts[at:at + _BATCH]
        grams = list(ngrams(batch, settings))
        for row in range(len(batch)):
            buckets = np.concatenate([gram.buckets[gram.starts[row]:gram.ends[row]] for gram in grams])
            found, counts = np.unique(buckets, return_counts=True)
            columns.append(found.astype(np.int32))
            values.append((counts / np.sqrt(max(1, len(buckets)))).astype(np.float32))
            lengths.append(len(found))
    return Rows(np.concatenate(columns), np.concatenate(values), np.concatenate([[0], np.cumsum(lengths)]))


def fit(rows: Rows, labels: NDArray[np.bool_], importance: NDArray[np.float64], *, width: int, penalty: float,
        iterations: int = 60) -> tuple[NDArray[np.float64], float]:
    """Weights [width] and bias that minimise the mean weighted log-loss + penalty |w|^2 / 2 (L-BFGS).

    Columns are scaled by naive Bayes log-count ratios first (NB-SVM, Wang & Manning 2012, with logistic loss), which
    lets few rows tell common from telling n-grams; the scaling is folded into the weights returned.
    """
    import torch

    ratios = _log_count_ratios(rows, labels, importance, width)
    importance = importance / importance.sum()
    targets = labels.astype(np.float64)
    parameters = torch.zeros(width + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([parameters], max_iter=iterations, history_size=8, line_search_fn="strong_wolfe",
                                  tolerance_grad=1e-7)

    def loss() -> torch.Tensor:
        values = parameters.detach().numpy()
        logits = rows.times(values[:-1] * ratios) + values[-1]
        residuals = importance * (1 / (1 + np.exp(-np.clip(logits, -500, 500))) - targets)
        gradient = np.append(ratios * rows.transposed_times(residuals, width) + penalty * values[:-1],
                             residuals.sum())
        parameters.grad = torch.from_numpy(gradient)
        log_loss = importance @ (np.logaddexp(0, logits) - targets * logits)
        return torch.tensor(log_loss + penalty / 2 * values[:-1] @ values[:-1])

    optimiser.step(loss)
    values = parameters.detach().numpy()
    return values[:-1] * ratios, float(values[-1])


def _log_count_ratios(rows: Rows, labels: NDArray[np.bool_], importance: NDArray[np.float64], width: int
                      ) -> NDArray[np.float64]:
    """Absolute log ratio of each column's share among the positive and among the negative rows."""
    present = Rows(rows.columns, np.ones_like(rows.values), rows.bounds)
    positive = 1 + present.transposed_times(importance * labels, width)
    negative = 1 + present.transposed_times(importance * ~labels, width)
    ratios = np.abs(np.log(positive / positive.sum()) - np.log(negative / negative.sum()))
    seen = (positive + negative) > 2
    return np.where(seen, ratios, 0.0)


def auc(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one (ties count half)."""
    order = np.argsort(scores, kind="stable")
    _, inverse, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks = np.empty(len(scores))
    ranks[order] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))
