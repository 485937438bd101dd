"""AdamW and its learning-rate schedule."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from headwater.model import Decoder
from headwater.settings import Settings


class OptimizerSettings(Settings):
    """AdamW with linear warm-up and cosine decay (LLaMA's and Baichuan's recipe)."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest rate, reached after the warm-up."""
    final_ratio: float = Field(default=0.1, ge=0, le=1)
    """The last rate as a share of the highest."""
    warmup_steps: int = Field(default=50, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    """On matrices only; norms and biases are not decayed."""
    clip: float = Field(default=1.0, gt=0)
    """Largest gradient norm."""


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """The rate of a step, 0-based: linear from 1/warmup to the highest, then cosine to the last."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - 1 - settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return settings.learning_rate * (settings.final_ratio + (1 - settings.final_ratio) * cosine)


def make_optimizer(model: Decoder, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over the parameters that require a gradient, in the order of their names."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [{"params": [p for _, p in named if p.dim() >= 2], "weight_decay": settings.weight_decay},
              {"params": [p for _, p in named if p.dim() < 2], "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate,
                             betas=(settings.beta1, settings.beta2), eps=settings.epsilon, fused=True)
