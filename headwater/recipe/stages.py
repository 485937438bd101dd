"""The stages a recipe can name, each found in its room only when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.settings import Settings

Run = Callable[[Any, Path], dict[str, float]]


@dataclass(frozen=True)
class Stage:
    """One stage: where its settings and its `run` live, and whose change makes its results old."""

    name: str
    purpose: str
    settings_path: str
    """`module:class` of the settings."""
    run_path: str
    """`module:function` of `run(settings, out)`."""
    rooms: tuple[str, ...] = ()
    """The rooms (or single modules) of the package whose code decides what the stage writes."""
    libraries: tuple[str, ...] = ()
    """The libraries whose version can change what the stage writes, by the name they are installed under."""
    check_path: str = ""
    """`module:function` of `check(settings)`: what can be refused before any stage has worked."""
    shared: bool = False
    """Whether several processes work on it together; otherwise the first does, and the others wait."""
    benchmarked: bool = False
    """Whether its settings have `benchmarks`, taken beside its training."""

    @property
    def settings(self) -> type[Settings]:
        found: type[Settings] = load(self.settings_path)
        return found

    @property
    def run(self) -> Run:
        found: Run = load(self.run_path)
        return found

    def check(self, settings: Settings) -> None:
        """Raises `InputError` for what this machine cannot do."""
        if self.check_path:
            load(self.check_path)(settings)


def load(path: str) -> Any:
    """What `module:name` names, imported now."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


Stages = Mapping[str, Stage]


def find(stages: Stages, name: str) -> Stage | None:
    """The stage of a name in a recipe: `finetune_lora` is a finetune of its own, beside others; None for no stage."""
    kind = name.partition("_")[0]
    return replace(stages[kind], name=name) if kind in stages else None


_MACHINE = "headwater.train.stage:check_machine"
_READERS = ("pyarrow",)
_CORPUS = ("daft", "numpy", "trafilatura", "resiliparse", "fastwarc", "pycld2")
_ALIGN = ("align", "dialogues", "generate", "train", "model", "tokenizer", "plan", "corpus")
_MODEL = ("torch", "numpy", "safetensors", "sentencepiece", "tokenizers")

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("atlas", "invent the bilingual world: pages, questions, dialogues",
              "headwater.atlas.stage:AtlasSettings", "headwater.atlas.stage:run", ("atlas",)),
        Stage("corpus", "turn raw documents into clean text",
              "headwater.corpus.stage:CorpusSettings", "headwater.corpus.stage:run", ("corpus",), _CORPUS + _READERS),
        Stage("tokenizer", "train the vocabulary",
              "headwater.tokenizer.stage:TokenizerSettings", "headwater.tokenizer.stage:run",
              ("tokenizer",), ("sentencepiece", *_READERS)),
        Stage("pretrain", "train a model on the corpus",
              "headwater.recipe.benchmarked:PretrainSettings", "headwater.train.stage:run",
              ("train", "model", "presets", "tokenizer", "plan"), _MODEL + _READERS, _MACHINE, shared=True,
              benchmarked=True),
        Stage("extend", "teach the model to read longer texts",
              "headwater.recipe.benchmarked:ExtendSettings", "headwater.context.stage:run",
              ("context", "train", "generate", "model", "tokenizer", "plan", "corpus", "presets"), _MODEL + _READERS,
              "headwater.context.stage:check", shared=True, benchmarked=True),
        Stage("finetune", "teach the model to hold a conversation",
              "headwater.recipe.benchmarked:FinetuneSettings", "headwater.finetune.stage:run",
              ("finetune", "dialogues", "generate", "train", "model", "tokenizer", "plan", "presets", "corpus"),
              _MODEL + _READERS, _MACHINE, shared=True, benchmarked=True),
        Stage("task", "teach the model to classify texts, to rate them or to tag their words",
              "headwater.finetune.task:TaskSettings", "headwater.finetune.task:run",
              ("finetune", "dialogues", "train", "model", "tokenizer", "plan"), _MODEL + _READERS, _MACHINE,
              shared=True),
        Stage("reward", "teach a chat model to say how good an answer is",
              "headwater.align.reward:RewardStageSettings", "headwater.align.reward:run",
              _ALIGN, _MODEL + _READERS, _MACHINE, shared=True),
        Stage("rejection", "let a model answer many times, and tune one on the best answers",
              "headwater.align.rejection:RejectionSettings", "headwater.align.rejection:run", (*_ALIGN, "generate"),
              _MODEL + _READERS, "headwater.align.tuning:check_machine"),
        Stage("dpo", "tune a chat model on preferences, without a reward model",
              "headwater.align.dpo_stage:DpoSettings", "headwater.align.dpo_stage:run", _ALIGN, _MODEL + _READERS,
              "headwater.align.tuning:check_machine"),
        Stage("ppo", "let a model learn from its own answers, which rewards judge (PPO)",
              "headwater.align.ppo_settings:PpoSettings", "headwater.align.ppo_stage:run",
              _ALIGN, _MODEL + _READERS, "headwater.align.tuning:check_machine"),
        Stage("ghost", "teach a chat model to obey an instruction of the first turn to the last (ghost attention)",
              "headwater.align.ghost:GhostSettings", "headwater.align.ghost:run", _ALIGN, _MODEL + _READERS,
              "headwater.align.tuning:check_machine"),
        Stage("prune", "take out the blocks that change least what flows through them",
              "headwater.compress.prune:PruneSettings", "headwater.compress.prune:run",
              ("compress", "generate", "train", "model", "presets", "tokenizer", "plan"), _MODEL + _READERS,
              "headwater.compress.prune:check"),
        Stage("quantize", "pack the weights into 8 or 4 bits",
              "headwater.compress.quantize:QuantizeSettings", "headwater.compress.quantize:run",
              ("compress", "generate", "train", "model", "presets", "tokenizer", "plan"), _MODEL + _READERS,
              "headwater.compress.quantize:check"),
        Stage("safety", "measure what models answer to risky requests, attacks and harmless look-alikes",
              "headwater.align.safety:SafetySettings", "headwater.align.safety:run",
              ("align", "dialogues", "generate", "model", "tokenizer", "plan", "corpus"), _MODEL),
        Stage("evaluate", "measure every model of the run, in both languages",
              "headwater.evaluate.stage:EvaluateSettings", "headwater.evaluate.stage:run",
              ("evaluate", "sandbox", "dialogues", "generate", "train", "model", "tokenizer", "plan", "corpus"),
              _MODEL + _READERS),
    )
}
"""In the order in which a run walks them."""
