"""What an answer is expected to be worth before every token of it: a head on a trunk of its own, or on the policy's."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from headwater.errors import InputError
from headwater.model import Decoder, ModelConfig
from headwater.model.adapters import choice_of, save_adapter
from headwater.model.checkpoint import load_model, read_config, require_floats, save_model
from headwater.model.lora import Chosen
from headwater.model.task_head import CONFIG, TaskHead
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.shards import identity
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
        if not (folder / CONFIG).is_file():
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


def require_critic(folder: Path, tokenizer: Tokenizer, policy: ModelConfig, length: int) -> None:
    """Refuse a folder in which no critic of the policy's answers can begin: one of another tokenizer or other positions
    reads something else in the same ids. length: of the rows. Raises `InputError`."""
    where, source = f"ppo.critic, {folder}", Path(folder)
    if (source / CONFIG).is_file():
        head, source, _ = TaskHead.load(source)
        if head.kind != "regression" or len(head.labels) != 1:
            raise InputError(f"a head for {head.kind} with {len(head.labels)} labels; a critic says one number",
                             where=where, fix="give a reward model, a model, or nothing: then it begins as the policy")
    require_floats(source, "trained", "give the float model")
    config = read_config(source)[0]
    if identity(Tokenizer.load(source)) != identity(tokenizer):
        raise InputError("its tokenizer is not the policy's, whose tokens it is asked about", where=where,
                         fix="give one that was trained from a model of the policy's tokenizer, or leave critic out; "
                         "as a reward it may have another")
    if config.longest < length or config.position_axes != policy.position_axes:
        raise InputError(f"it reads {config.longest:,} tokens in {config.position_axes} positions each, rows have "
                         f"{length:,} in {policy.position_axes}", where=where,
                         fix="give one like the policy, or lower trainer.sequence_length")
