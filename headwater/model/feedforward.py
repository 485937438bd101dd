"""The feed-forward half of a block: SwiGLU (2002.05202) or GELU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from headwater.model.config import ModelConfig
from headwater.model.native import fused


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate x) * up x), gate and up in one matrix of rows [gate | up]; GELU: down(gelu(up x)).

    GELU is exact (erf) or the tanh approximation; in ChatGLM-6B the two differ by 0.002 in the logits.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gated = config.activation == "swiglu"
        self.approximate = "tanh" if config.activation == "gelu_tanh" else "none"
        width = config.intermediate_size * (2 if self.gated else 1)
        self.up: nn.Module = nn.Linear(config.hidden_size, width, bias=config.mlp_bias)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gated:
            both = self.up(x)  # [B,T,2F]
            if fused.serves(both):
                return self.down(fused.swiglu(both))
            gate, up = both.chunk(2, dim=-1)
            return self.down(F.silu(gate) * up)
        return self.down(F.gelu(self.up(x), approximate=self.approximate))
