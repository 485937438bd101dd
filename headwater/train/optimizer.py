"""Optimizers, schedules of the learning rate, and which tensors each process updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from headwater.settings import Settings


class OptimizerSettings(Settings):
    """AdamW or Muon, with warm-up and decay (the defaults are Baichuan 2's)."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: the blocks' matrices by Muon, everything else by AdamW."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Highest rate, reached after the warm-up. Muon's updates are scaled to AdamW's size, so one rate serves both."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """cosine: falls from the warm-up to the last step. wsd (warm-up, stable, decay): stays, then falls linearly."""
    final_ratio: float = Field(default=0.1, ge=0, le=1)
    """The last rate as a share of the highest."""
    decay_share: float = Field(default=0.2, gt=0, le=1)
    """wsd: the share of all steps, at their end, over which the rate falls."""
    warmup_steps: int = Field(default=50, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """muon: of the averaged gradient, used with Nesterov's step."""
    weight_decay: float = Field(default=0.1, ge=0)
    """On matrices only; norms and biases are not decayed."""
    clip: float = Field(default=0.5, gt=0)
    """Largest gradient norm."""
    embedding_gradient: float = Field(default=1.0, gt=0, le=1)
    """Share of the gradient that reaches the embedding from the blocks; GLM-130B shrinks it to 0.1 against spikes."""

    @model_validator(mode="after")
    def _used(self) -> OptimizerSettings:
        idle = {"decay_share": self.schedule != "wsd", "final_ratio": self.schedule == "constant",
                "momentum": self.name != "muon"}
        for name, no_effect in idle.items():
            if no_effect and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect with " + (
                    self.name if name == "momentum" else f"schedule {self.schedule}"))
        return self


def learning_rate(settings: OptimizerSettings, step: int, steps: int) -> float:
    """The rate of a step, 0-based: linear from 1/warmup to the highest, then as the schedule says."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "wsd":
        begin = max(settings.warmup_steps, round(steps * (1 - settings.decay_share)))
        fall = max(0.0, min(1.0, (step - begin + 1) / max(1, steps - begin)))
    else:
        share = (step - settings.warmup_steps) / max(1, steps - 1 - settings.warmup_steps)
        fall = 0.5 * (1 - math.cos(math.pi * min(1.0, share)))
    return settings.learning_rate * (1 - fall * (1 - settings.final_ratio))


class Updated:
    """A parameter and the tensor that an optimizer updates for it, which may be another one where a process updates
    only a part of what it holds."""

    def __init__(self, name: str, parameter: nn.Parameter, tensor: Tensor) -> None:
        self.name, self.parameter, self.tensor = name, parameter, tensor

    def receive(self) -> None:
        """Bring the parameter's gradient to the tensor."""
        if self.tensor is not self.parameter:
            self.tensor.grad = self.parameter.grad

    def publish(self) -> None:
        """Bring the tensor's new values to the parameter, on every process."""

    def reload(self) -> None:
        """Bring the parameter's values to the tensor."""


Update = Callable[[str, nn.Parameter, bool], Updated]
"""Chooses what is updated for a named parameter; the flag says that the update needs the whole matrix."""


def whole(name: str, parameter: nn.Parameter, needs_matrix: bool) -> Updated:
    """Update the parameter itself: one process, or AdamW on sharded parameters."""
    return Updated(name, parameter, parameter)


class Optimizer:
    """AdamW, or Muon for the blocks' matrices with AdamW for the rest, over the parameters that need a gradient.

    Every moment exists from the start, so a checkpoint can be read into them. Raises nothing: settings are checked.
    """

    def __init__(self, model: nn.Module, settings: OptimizerSettings, update: Update = whole) -> None:
        self.settings, self.updates = settings, 0
        self.behind: dict[str, int] = {}
        """Updates that passed by a parameter, by name: it had no gradient."""
        named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
        by_muon = {name for name, one in named if one.dim() == 2 and ".blocks." in f".{name}"}
        by_muon = by_muon if settings.name == "muon" else set()
        self.all = [update(name, one, name in by_muon) for name, one in named]
        self.optimizers: list[torch.optim.Optimizer] = []
        self.momenta: dict[str, Tensor] = {}
        self._add(torch.optim.Muon, [one for one in self.all if one.name in by_muon], settings.weight_decay,
                  ("momentum_buffer",), momentum=settings.momentum, adjust_lr_fn="match_rms_adamw")
        for decay, matrix in ((settings.weight_decay, True), (0.0, False)):
            chosen = [one for one in self.all if one.name not in by_muon and (one.parameter.dim() >= 2) == matrix]
            self._add(torch.optim.AdamW, chosen, decay, ("exp_avg", "exp_avg_sq"), eps=settings.epsilon, fused=True,
                      betas=(settings.beta1, settings.beta2))

    def _add(self, kind: Any, chosen: list[Updated], decay: float, moments: tuple[str, ...], **options: Any) -> None:
        mine = [one for one in chosen if one.tensor.numel()]
        if not mine:
            return
        made = kind([one.tensor for one in mine], lr=self.settings.learning_rate, weight_decay=decay, **options)
        for one in mine:
            state = {moment: torch.zeros_like(one.tensor) for moment in moments}
            self.momenta.update({f"{moment}:{one.name}": tensor for moment, tensor in state.items()})
            made.state[one.tensor] = state if kind is torch.optim.Muon else {"step": torch.tensor(0.0), **state}
        self.optimizers.append(made)

    def step(self, rate: float) -> None:
        """Update every parameter by its gradient, and let go of the gradients."""
        for one in self.all:
            one.receive()
            if one.parameter.grad is None:
                self.behind[one.name] = self.behind.get(one.name, 0) + 1
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        with torch.no_grad():
            for one in self.all:
                one.publish()
        self.updates += 1
        self.forget()

    def forget(self) -> None:
        """Let go of the gradients."""
        for one in self.all:
            one.parameter.grad = one.tensor.grad = None

    def restore(self, updates: int, behind: Mapping[str, int]) -> None:
        """Count as after so many updates, some of which passed parameters by, once `momenta` hold what they held then.
        """
        self.updates, self.behind = updates, dict(behind)
        for one in self.all:
            one.reload()
            for optimizer in self.optimizers:
                if "step" in optimizer.state.get(one.tensor, {}):
                    optimizer.state[one.tensor]["step"].fill_(float(updates - behind.get(one.name, 0)))


class _Shrunk(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.share, None


def shrink_gradient(x: Tensor, share: float) -> Tensor:
    """x itself, with its gradient times `share`: w a + sg(w) (1 - a) of GLM-130B (2210.02414, section 3.2)."""
    out: Tensor = _Shrunk.apply(x, share)
    return out
