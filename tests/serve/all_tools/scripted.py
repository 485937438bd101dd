"""A real model that says what a script says: whatever its weights like, no other token is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from headwater.generate.constraint import Constraint
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import save_model
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.calls import Call
from headwater.tokenizer.calls.lark import literal
from headwater.tokenizer.chat import CALL, END

CONTEXT = 16384
Said = str | Call | object
ENDLESS = object()
"""Text that goes on until something else ends it."""
Policy = Callable[[str], Said]
"""What to say, from all that the model reads, special tokens as they are named."""


def roomy_run(folder: Path, tokenizer: Tokenizer, tokenizer_from: Path) -> Path:
    """A run with a model of random weights and a long context."""
    config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=CONTEXT)
    save_model(initialise(Decoder(config), 0), folder / "finetune", tokenizer_from=tokenizer_from)
    return folder


class Script:
    """Drives a server's engine. `read` is what the model was given, turn by turn."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.prepare = engine, engine.prepare
        self.policy: Policy = lambda text: "?"
        self.read: list[str] = []
        self.params: list[Any] = []
        engine.prepare = self._prepare

    def says(self, *turns: Said | Policy) -> None:
        """One after the other, the last again and again."""
        self.read.clear()
        self.params.clear()

        def follow(text: str) -> Said:
            turn = turns[min(len(self.read), len(turns)) - 1]
            return turn(text) if callable(turn) else turn

        self.policy = follow

    def _prepare(self, prompt: list[int], params: Any, adapter: str | None = None) -> Any:
        names = {index: name for name, index in self.engine.tokenizer.specials.items()}
        text, run = "", list[int]()
        for token in [*prompt, None]:
            if token is None or token in names:
                text += self.engine.tokenizer.decode(run) + names.get(token, "")
                run = []
            else:
                run.append(token)
        self.read.append(text)
        self.params.append(params)
        said = self.policy(text)
        if said is ENDLESS:
            change: dict[str, Any] = {"constraint": None, "logit_bias": dict.fromkeys(names, -100.0)}
        else:
            change = {"constraint": Constraint(kind="grammar", text=f"start: {written(said)} {END}")}
        return self.prepare(prompt, params.model_copy(update=change), adapter)


def written(said: Said) -> str:
    if isinstance(said, Call):
        return f"{CALL} {literal(said.name + chr(10) + said.json)}"
    assert isinstance(said, str)
    return literal(said)
