"""Rotary settings as `transformers` writes them, old (`rope_scaling`) and new (`rope_parameters`)."""

from __future__ import annotations

from typing import Any

from headwater.model.config import ModelConfig, RopeScaling

_RENAMED = {"original_length": "original_max_position_embeddings"}
_FIELDS = {"linear": ("factor",), "dynamic": ("factor",),
           "yarn": ("factor", "original_length", "beta_fast", "beta_slow", "attention_factor"),
           "llama3": ("factor", "original_length", "low_freq_factor", "high_freq_factor")}


def rope_from(values: dict[str, Any], theta: float = 10000.0) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` of a `ModelConfig` from official values. Raises `ValueError` for other types."""
    found = {**(values.get("rope_scaling") or {}), **(values.get("rope_parameters") or {})}
    kind = found.get("rope_type", found.get("type", "default"))
    ours: dict[str, Any] = {"rope_theta": values.get("rope_theta", found.get("rope_theta", theta))}
    if kind == "default":
        return ours
    if kind not in _FIELDS:
        raise ValueError(f"rope scaling {kind!r} is not supported (known: {', '.join(_FIELDS)})")
    scaling = {name: found[_RENAMED.get(name, name)] for name in _FIELDS[kind]
               if found.get(_RENAMED.get(name, name)) is not None}
    if kind == "yarn" and "original_length" not in scaling:
        scaling["original_length"] = values.get("max_position_embeddings")
    return {**ours, "rope_scaling": RopeScaling.parse({"kind": kind, **scaling})}


def rope_to(config: ModelConfig) -> dict[str, Any]:
    """The official values, in the older form, which every release reads."""
    if config.rope_scaling is None:
        return {"rope_theta": config.rope_theta, "rope_scaling": None}
    scaling = config.rope_scaling
    fields = {_RENAMED.get(name, name): getattr(scaling, name) for name in _FIELDS[scaling.kind]
              if getattr(scaling, name) is not None}
    fields.update(rope_type=scaling.kind, type=scaling.kind)
    return {"rope_theta": config.rope_theta, "rope_scaling": fields}
