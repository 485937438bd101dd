"""Rotary settings as `transformers` writes them, old (`rope_scaling`) and new (`rope_parameters`)."""

from __future__ import annotations

from typing import Any

from headwater.model.config import ModelConfig
from headwater.model.scalings import SCALINGS

_BESIDE = {"type", "rope_type", "rope_theta", "partial_rotary_factor", "finetuned", "original_max_position_embeddings"}
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
    if kind not in SCALINGS:
        raise ValueError(f"rope scaling {kind!r} is not supported (known: {', '.join(SCALINGS)})")
    method = SCALINGS[kind]
    known = {*_BESIDE, *method.BESIDE, *method.NAMES.values()}
    unknown = [name for name, value in found.items() if name not in known and value is not None]
    if unknown:
        raise ValueError(f"rope scaling option {unknown[0]!r} of {kind} is not supported")
    fields = method.read(found, values.get("max_position_embeddings"))
    return {**ours, "rope_scaling": method.parse(fields, where="rope_scaling")}


def rope_to(config: ModelConfig) -> dict[str, Any]:
    """The official values, in the older form, which every release reads."""
    scaling = config.rope_scaling
    return {"rope_theta": config.rope_theta, "rope_scaling": None if scaling is None else scaling.official()}
