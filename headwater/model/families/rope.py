"""Rotary settings as `transformers` writes them, old (`rope_scaling`) and new (`rope_parameters`)."""

from __future__ import annotations

import math
from typing import Any

from headwater.model.config import ModelConfig, RopeScaling

_RENAMED = {"original_length": "original_max_position_embeddings"}
_FIELDS = {"linear": ("factor",), "dynamic": ("factor",),
           "yarn": ("factor", "original_length", "beta_fast", "beta_slow", "truncate", "attention_factor"),
           "llama3": ("factor", "original_length", "low_freq_factor", "high_freq_factor")}
_BESIDE = ("type", "rope_type", "rope_theta", "partial_rotary_factor", "finetuned", "original_max_position_embeddings",
           "mscale", "mscale_all_dim")
"""What may stand beside a scaling's own fields: read elsewhere, or a note that changes nothing."""


def rope_from(values: dict[str, Any], theta: float = 10000.0) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` of a `ModelConfig` from official values. Raises `ValueError` for other types."""
    found: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        given = values.get(key) or {}
        if not isinstance(given, dict):
            raise ValueError(f"{key} {given!r} is not an object")
        found |= given
    kind = found.get("rope_type", found.get("type", "default"))
    ours: dict[str, Any] = {"rope_theta": values.get("rope_theta", found.get("rope_theta", theta))}
    if kind == "default":
        if found.get("factor") is not None:
            raise ValueError("rope_scaling has a factor and no type: it would be ignored")
        return ours
    if kind not in _FIELDS:
        raise ValueError(f"rope scaling {kind!r} is not supported (known: {', '.join(_FIELDS)})")
    beside = _BESIDE if kind == "yarn" else _BESIDE[:-2]
    known = {*beside, *(_RENAMED.get(name, name) for name in _FIELDS[kind])}
    unknown = [name for name, value in found.items() if name not in known and value is not None]
    if unknown:
        raise ValueError(f"rope scaling option {unknown[0]!r} of {kind} is not supported")
    scaling = {name: found[_RENAMED.get(name, name)] for name in _FIELDS[kind]
               if found.get(_RENAMED.get(name, name)) is not None}
    if kind == "yarn":
        scaling.setdefault("original_length", values.get("max_position_embeddings"))
        weights: list[Any] = [found.get("mscale"), found.get("mscale_all_dim")]
        if all(weights) and "factor" in scaling:
            above, below = (0.1 * weight * math.log(max(1.0, scaling["factor"])) + 1.0 for weight in weights)
            scaling.setdefault("attention_factor", above / below)
    return {**ours, "rope_scaling": RopeScaling.parse({"kind": kind, **scaling}, where="rope_scaling")}


def rope_to(config: ModelConfig) -> dict[str, Any]:
    """The official values, in the older form, which every release reads."""
    if config.rope_scaling is None:
        return {"rope_theta": config.rope_theta, "rope_scaling": None}
    scaling = config.rope_scaling
    fields = {_RENAMED.get(name, name): getattr(scaling, name) for name in _FIELDS[scaling.kind]
              if getattr(scaling, name) is not None}
    fields.update(rope_type=scaling.kind, type=scaling.kind)
    return {"rope_theta": config.rope_theta, "rope_scaling": fields}
