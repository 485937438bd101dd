"""What an answer is expected to be worth before every token of it: a head on a trunk of its own, or on the policy's."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from headwater.model import Decoder
from headwater.model.adapters import choice_of, save_adapter
from headwater.model.checkpoint import load_model, save_model
from headwater.model.lora import Chosen
from headwater.model.task_head import TaskHead
from headwater.train.batches import Batch

POLICY, CRITIC = "policy", "critic"
"""The adapters of one frozen model that is all four: without them it is the reference, and with a head the critic."""
VALUE = "value"


class Critic(nn.Module):
    """V(s) = w h(s), with h of `trunk`, or of the policy's own trunk with the adapter "critic" where that is None."""

    def __init__(self, head: TaskHead, trunk: Decoder | None) -> None:
        super().__init__()
        self.head, self.trunk = head, trunk
        if trunk is not None and not trunk.config.tie_word_embeddings:
            trunk.head.requires_grad_(False)  # of the vocabulary: nothing is asked of it

    @classmethod
    def beside(cls, policy: Decoder) -> Critic:
        """That shares the policy's trunk, and expects nothing yet."""
        return cls(TaskHead("regression", policy.config.hidden_size, [VALUE]), None)

    @classmethod
    def load(cls, folder: Path) -> Critic:
        """With a trunk of its own in float32: a reward model's, which begins with what that one says, or a plain
        model's, which begins with 0."""
        if not (folder / "task.json").is_file():
            trunk = load_model(folder).float()
            return cls(TaskHead("regression", trunk.config.hidden_size, [VALUE]), trunk)
        reward, source, _ = TaskHead.load(folder)
        trunk = load_model(source).float()
        head = TaskHead("regression", trunk.config.hidden_size, [VALUE])
        head.weight.data.copy_(reward.weight)
        head.mean.copy_(reward.mean)
        head.spread.copy_(reward.spread)
        return cls(head, trunk)

    def forward(self, model: Decoder, batch: Batch) -> Tensor:
        """Values float32 [B,T]: at each token, of what may follow it. model: the policy."""
        if self.trunk is not None:
            hidden = self.trunk.hidden(batch.tokens, batch.intervals, batch.positions)
        else:
            choice = choice_of(model)
            assert choice is not None, "a critic on the policy's trunk is an adapter of it"
            with choice.using(Chosen((CRITIC,))):
                hidden = model.hidden(batch.tokens, batch.intervals, batch.positions)
        values: Tensor = self.head(hidden)[..., 0] * self.head.spread + self.head.mean
        return values

    def save(self, folder: Path, policy: Decoder, source: Path) -> None:
        """As a task's head and its model, or its adapter. source: the folder of the policy's model."""
        if self.trunk is not None:
            save_model(self.trunk, folder, tokenizer_from=source)
        else:
            save_adapter(policy, folder, source, CRITIC)
        self.head.save(folder, folder, policy.config.longest)
