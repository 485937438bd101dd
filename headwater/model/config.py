"""What a decoder is made of: one flat configuration, in Hugging Face's field names where a field has one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from headwater.model.scalings import DynamicNtk, RopeScaling
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
    head_dim: int = Field(default=0, ge=0, le=65536)
    """0 means hidden_size / num_attention_heads."""
    max_position_embeddings: int = Field(default=2048, gt=0)
    """Longest trained sequence, in tokens."""
    position: Literal["rope", "rope_2d", "alibi", "learned_2d", "none"] = "rope"
    """rope_2d (ChatGLM-6B): half of a head turns with the position, half with the place in the generated block.
    learned_2d (GLM): two tables added to the embeddings."""
    rope_theta: float = Field(default=10000.0, gt=0)
    rope_dims: int = Field(default=0, ge=0)
    """The first so many dimensions of a head are rotated; 0 means all."""
    rope_layout: Literal["half", "interleaved"] = "half"
    """Which dimensions form a pair: (i, i + d/2), as in LLaMA, or (2i, 2i + 1), as in ChatGLM2 and GLM-4."""
    rope_scaling: RopeScaling | None = None
    """How rotary positions are stretched past the trained length."""
    log_n_length: int = Field(default=0, ge=0)
    """Scores of a token behind position n are multiplied by ln(position) / ln(n), so that a softmax over more keys is
    no flatter than over n (Su's log-n scaling); 0: never."""
    sliding_window: int = Field(default=0, ge=0)
    """Tokens that a token sees, itself the last of them (Mistral 7B, 2310.06825, section 2); 0: all before it."""
    attention_sinks: int = Field(default=0, ge=0)
    """Beside its window a token sees the first so many of its row, no further away than the window's end (StreamingLLM,
    2309.17453, section 3.2)."""
    score_scale: float = Field(default=1.0, gt=0)
    """Multiplies the scores before the softmax."""
    rope_rounding: Literal["none", "float16"] = "none"
    """float16: frequencies are rounded to half precision, as ChatGLM-6B's official code does."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_eps: float = Field(default=1e-5, gt=0)
    norm_placement: Literal["pre", "sandwich", "scaled_residual"] = "pre"
    """pre: x + f(norm x). sandwich (GLM-4-0414): x + norm f(norm x). scaled_residual (ChatGLM-6B): with y = norm x,
    residual_scale y + f(y)."""
    residual_scale: float = Field(default=1.0, gt=0)
    activation: Literal["swiglu", "gelu", "gelu_tanh"] = "swiglu"
    attention_bias: bool = False
    """Bias on the query, key and value projections."""
    output_bias: bool = False
    """Bias on the attention's output projection."""
    mlp_bias: bool = False
    head: Literal["linear", "normalized"] = "linear"
    """normalized: NormHead of Baichuan 2, rows of length one."""
    tie_word_embeddings: bool = False
    prefix_ids: tuple[int, ...] = ()
    """Empty: attention is causal. Else ChatGLM-6B's rule: tokens before the last of these ids (<sop>) see each other,
    and those from it on stand at the place of the first of the other ids ([gMASK], [MASK]) that a row holds."""
    initializer_range: float = Field(default=0.02, gt=0)
    layout: str = ""
    """The official form that an imported model is written back in; empty: LLaMA's where it can say all, else ours."""

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
        if not values.get("rope_dims") and isinstance(values.get("head_dim"), int):
            values["rope_dims"] = values["head_dim"]
        return values

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(f"num_attention_heads {self.num_attention_heads} is not a multiple of "
                             f"num_key_value_heads {self.num_key_value_heads}")
        if self.position == "rope" and (self.rope_dims % 2 or self.rope_dims > self.head_dim):
            raise ValueError(f"rotary positions need an even number of dimensions up to head_dim {self.head_dim}, "
                             f"got {self.rope_dims}")
        if self.rope_scaling is not None and self.rope_scaling.kind == "yarn" and self.rope_theta <= 1:
            raise ValueError(f"yarn needs a rope_theta above 1, got {self.rope_theta}")
        if self.position == "rope_2d" and self.head_dim % 4:
            raise ValueError(f"two rotary positions need a head_dim that is a multiple of 4, got {self.head_dim}")
        if self.rope_scaling is not None and self.position != "rope":
            raise ValueError(f"rope_scaling needs position 'rope', got '{self.position}'")
        if self.sliding_window and (self.prefix_ids or self.position.endswith("_2d")):
            raise ValueError("sliding_window is of causal models, and prefixes are read both ways")
        if self.sliding_window and isinstance(self.rope_scaling, DynamicNtk):
            raise ValueError("dynamic rope_scaling follows the length of the text, of which a sliding_window sees none")
        if self.sliding_window and self.log_n_length:
            raise ValueError("log_n_length sharpens scores as more keys are seen, and a sliding_window sees as many at "
                             "any position")
        if self.attention_sinks and not self.sliding_window:
            raise ValueError("attention_sinks needs a sliding_window")
        if len(self.prefix_ids) == 1:
            raise ValueError("prefix_ids needs at least one mask id and the id that begins the answer")
        return self

    @property
    def longest(self) -> int:
        """Tokens that the model is made to read; with dynamic NTK more than it was trained on."""
        factor = self.rope_scaling.factor if isinstance(self.rope_scaling, DynamicNtk) else 1
        return round(self.max_position_embeddings * factor)

    def seen(self, length: int) -> int:
        """Of a text so long, the tokens within which a query meets all keys: a window's and its sinks."""
        return min(length, self.sliding_window + self.attention_sinks) if self.sliding_window else length

    @property
    def position_axes(self) -> int:
        """Numbers that say where a token stands: 2 for the GLM families with block positions."""
        return 2 if self.position.endswith("_2d") else 1
