"""What a decoder is made of: one flat configuration, in Hugging Face's field names where a field has one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from headwater.settings import Settings


class ModelConfig(Settings):
    """The axes of the one decoder. LLaMA-like by default."""

    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0, le=1024)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(default=0, ge=0)
    """Key/value heads: equal to the attention heads = MHA, fewer = GQA, 1 = MQA; 0 means MHA."""
    head_dim: int = Field(default=0, ge=0)
    """0 means hidden_size / num_attention_heads."""
    max_position_embeddings: int = Field(default=2048, gt=0)
    """Longest trained sequence, in tokens."""
    position: Literal["rope", "alibi", "none"] = "rope"
    rope_theta: float = Field(default=10000.0, gt=0)
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = Field(default=1e-5, gt=0)
    activation: Literal["swiglu", "gelu"] = "swiglu"
    attention_bias: bool = False
    """Bias on the query, key and value projections."""
    output_bias: bool = False
    """Bias on the attention's output projection."""
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    initializer_range: float = Field(default=0.02, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        heads = values.get("num_attention_heads")
        if isinstance(heads, int) and heads > 0:
            values["num_key_value_heads"] = values.get("num_key_value_heads") or heads
            if not values.get("head_dim") and isinstance(values.get("hidden_size"), int):
                if values["hidden_size"] % heads:
                    raise ValueError(f"hidden_size {values['hidden_size']} is not a multiple of {heads} heads")
                values["head_dim"] = values["hidden_size"] // heads
        return values

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                             f"num_key_value_heads {self.num_key_value_heads}")
        if self.position == "rope" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, got {self.head_dim}")
        return self
