"""The open models by their official names: configurations from which planner and recipes start.

Shapes are those of the published configurations; where an official source was not at hand the comment says so.
"""

from __future__ import annotations

from typing import Any

from headwater.errors import InputError
from headwater.model.config import ModelConfig
from headwater.model.families import chatglm
from headwater.model.scalings import PositionInterpolation
from headwater.settings import nearest_name


def preset(name: str, **changes: Any) -> ModelConfig:
    """The configuration of an official model, its fields replaced by `changes`.

    Raises `InputError` with the nearest known name.
    """
    name = str(name)
    found = {known.lower(): values for known, values in PRESETS.items()}.get(name.lower())
    if found is None:
        nearest = nearest_name(name.lower(), [known.lower() for known in PRESETS])
        spelled = next((known for known in PRESETS if known.lower() == nearest), None)
        raise InputError(f"unknown preset {name!r}",
                         fix=f"did you mean {spelled}?" if spelled else f"known: {', '.join(PRESETS)}")
    return ModelConfig.parse({**found, **changes}, where=name)


def _llama(layers: int, hidden: int, heads: int, feed: int, *, groups: int = 0, length: int = 4096,
           eps: float = 1e-5) -> dict[str, Any]:
    return {"vocab_size": 32000, "hidden_size": hidden, "intermediate_size": feed, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": groups, "max_position_embeddings": length,
            "norm_eps": eps}


def _grouped(length: int, **changes: Any) -> dict[str, Any]:
    """LLaMA 3 8B and Mistral 7B but for vocabulary and positions."""
    return {**_llama(32, 4096, 32, 14336, groups=8, length=length), **changes}


def _baichuan(size: str, *, second: bool) -> dict[str, Any]:
    small = _llama(32, 4096, 32, 11008, eps=1e-6)
    shape = small if size == "7B" else _llama(40, 5120, 40, 13696, eps=1e-6)
    return {**shape, "vocab_size": 125696 if second else 64000, "position": "rope" if size == "7B" else "alibi",
            "head": "normalized" if second else "linear", "layout": "baichuan"}


def _chatglm2(length: int, **changes: Any) -> dict[str, Any]:
    return {"vocab_size": 65024, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 28,
            "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": length,
            "rope_layout": "interleaved", "rope_dims": 64, "attention_bias": True, "norm_eps": 1e-5,
            "layout": "chatglm2", **changes}


def _glm4(length: int, ratio: int, **changes: Any) -> dict[str, Any]:
    return _chatglm2(length, vocab_size=151552, num_hidden_layers=40, rope_theta=10000.0 * ratio,
                     norm_eps=1.5625e-7, layout="glm4", **changes)


def _glm(layers: int, hidden: int, heads: int, vocabulary: int, length: int) -> dict[str, Any]:
    return {"vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": 4 * hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "max_position_embeddings": length,
            "position": "learned_2d", "norm": "layernorm", "activation": "gelu", "attention_bias": True,
            "output_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "layout": "glm"}


_CHATGLM_6B = {**chatglm.FIXED, "vocab_size": 130528, "hidden_size": 4096, "intermediate_size": 16384,
               "num_hidden_layers": 28, "num_attention_heads": 32, "max_position_embeddings": 2048,
               "prefix_ids": (130001, 130000, 130004), "layout": "chatglm"}
_GLM4_0414 = {"norm_placement": "sandwich", "norm_eps": 1e-5}

PRESETS: dict[str, dict[str, Any]] = {
    "LLaMA-7B": _llama(32, 4096, 32, 11008, length=2048, eps=1e-6),
    "LLaMA-13B": _llama(40, 5120, 40, 13824, length=2048, eps=1e-6),
    "LLaMA-33B": _llama(60, 6656, 52, 17920, length=2048, eps=1e-6),
    "LLaMA-65B": _llama(80, 8192, 64, 22016, length=2048),  # its eps is from memory
    "Llama-2-7B": _llama(32, 4096, 32, 11008),
    "Llama-2-13B": _llama(40, 5120, 40, 13824),
    "Llama-2-34B": _llama(48, 8192, 64, 22016, groups=8),  # never released; the shape of Code Llama 34B
    "Llama-2-70B": _llama(80, 8192, 64, 28672, groups=8),
    "Llama-3-8B": _grouped(8192, vocab_size=128256, rope_theta=500000.0),
    "Mistral-7B-v0.2": _grouped(32768, rope_theta=1e6),
    "Baichuan-7B": _baichuan("7B", second=False),
    "Baichuan-13B": _baichuan("13B", second=False),
    "Baichuan2-7B": _baichuan("7B", second=True),
    "Baichuan2-13B": _baichuan("13B", second=True),
    "ChatGLM-6B": _CHATGLM_6B,
    "ChatGLM2-6B": _chatglm2(32768),
    "ChatGLM2-6B-32K": _chatglm2(32768, rope_scaling=PositionInterpolation(factor=16)),
    "ChatGLM3-6B": _chatglm2(8192),
    "ChatGLM3-6B-32K": _chatglm2(32768, rope_theta=500000.0),  # its ratio of 50 is from memory
    "GLM-4-9B": _glm4(8192, 1),
    "GLM-4-9B-Chat": _glm4(131072, 500),
    "GLM-4-9B-Chat-1M": _glm4(1048576, 10000, num_key_value_heads=4),
    "GLM-4-9B-0414": _glm4(32768, 1) | _GLM4_0414,  # length and eps are from memory
    "GLM-10B": _glm(48, 4096, 64, 50304, 1024),
    "GLM-10B-Chinese": _glm(48, 4096, 64, 50048, 1024),
    "GLM-2B": _glm(36, 2048, 32, 50304, 1024),
    "GLM-Large-Chinese": _glm(24, 1024, 16, 50048, 1024),
    "GLM-515M": _glm(30, 1152, 18, 30592, 512),
}
