"""GLM-4-9B and GLM-4-0414 in the form of `transformers`: configuration and weight names, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.model.config import ModelConfig
from headwater.model.families.llama import inside, outside
from headwater.model.families.names import Entry, differing, renamed, stacked
from headwater.model.families.rope import rope_from, rope_to

LAYOUT = "glm4"
MODEL_TYPES = {"glm": "pre", "glm4": "sandwich"}
"""Official model type -> where its norms stand: GLM-4-0414 has two more per block."""
WRITES_TIED_HEAD = False
_SAME_NAME = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
              "num_key_value_heads", "head_dim", "max_position_embeddings", "tie_word_embeddings", "initializer_range",
              "attention_bias")
NAMES = {"norm_eps": "rms_norm_eps"}
_EXPRESSES = {"position": "rope", "rope_layout": "interleaved", "norm": "rmsnorm", "activation": "swiglu",
              "output_bias": False, "mlp_bias": False, "head": "linear", "prefix_ids": ()}

_END_IDS = (151329, 151336, 151338)
"""<|endoftext|>, <|user|>, <|observation|>: what ends an answer."""


def unsaid(config: ModelConfig) -> list[str]:
    """What of `config` the official configuration cannot say."""
    placement = config.norm_placement if config.norm_placement in MODEL_TYPES.values() else "pre"
    return differing(config, {**_EXPRESSES, "norm_placement": placement})


def config_from(values: dict[str, Any]) -> ModelConfig:
    """Our configuration from an official `config.json`. Raises `ValueError` or `SettingsError`."""
    if values.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act {values['hidden_act']!r} is not GLM-4's 'silu'")
    ours = {name: values[name] for name in _SAME_NAME if values.get(name) is not None}
    head_dim = values.get("head_dim") or values.get("hidden_size", 0) // (values.get("num_attention_heads") or 1)
    parameters = values.get("rope_parameters") or {}
    share = values.get("partial_rotary_factor", parameters.get("partial_rotary_factor", 0.5))
    return ModelConfig.parse({**ours, **rope_from(values), "head_dim": head_dim, "rope_dims": int(head_dim * share),
                              "rope_layout": "interleaved", "norm_placement": MODEL_TYPES[values["model_type"]],
                              "norm_eps": values.get("rms_norm_eps", 1.5625e-7), "layout": LAYOUT})


def config_to(config: ModelConfig) -> dict[str, Any]:
    """The official `config.json` values."""
    kind = next(name for name, placement in MODEL_TYPES.items() if placement == config.norm_placement)
    # transformers' own defaults are ids that a smaller vocabulary does not have.
    whole = config.vocab_size > max(_END_IDS)
    return {"pad_token_id": _END_IDS[0] if whole else None, "eos_token_id": list(_END_IDS) if whole else None,
            "architectures": [f"{kind.title()}ForCausalLM"], "model_type": kind, "hidden_act": "silu",
            **{name: getattr(config, name) for name in _SAME_NAME}, **rope_to(config),
            "partial_rotary_factor": config.rope_dims / config.head_dim, "rms_norm_eps": config.norm_eps}


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every tensor's names."""
    query, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    yield from outside()
    for layer in range(config.num_hidden_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        yield from stacked(f"{ours}.attention.qkv", [f"{theirs}.self_attn.{part}_proj" for part in "qkv"],
                           [query, shared, shared])
        yield from renamed(f"{ours}.feedforward.up", f"{theirs}.mlp.gate_up_proj")
        yield from inside(ours, theirs)
        yield from renamed(f"{ours}.attention_output_norm", f"{theirs}.post_self_attn_layernorm")
        yield from renamed(f"{ours}.feedforward_output_norm", f"{theirs}.post_mlp_layernorm")
