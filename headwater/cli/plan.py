"""`headwater plan`: what a model needs to be trained, tuned and served, from its shape, here or on a named GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from rich.table import Table

from headwater import plan
from headwater.errors import InputError, SettingsError
from headwater.generate.run_folder import find_model
from headwater.hardware import total_memory_bytes
from headwater.model.checkpoint import read_config
from headwater.model.config import ModelConfig
from headwater.presets import preset
from headwater.progress import print_result, say
from headwater.settings import Settings, read_yaml, with_overrides

GIGA = 2**30


class PlanSettings(Settings):
    """For what use; a recipe says of its training what is not given here."""

    length: int | None = Field(default=None, gt=0)
    """Tokens of a sequence; the trained length when not set."""
    processes: int = Field(default=1, gt=0)
    """Training: how many share it, each with a GPU of its own."""
    tensor: int = Field(default=1, gt=0)
    """Training: of them, how many split every matrix between them."""
    replicas: int = Field(default=1, gt=0)
    """Training: groups of processes that each hold all of the model (ZeRO 2 and 3)."""
    micro_rows: int = Field(default=1, gt=0)
    """Training: sequences that a process computes at once."""
    accumulate: int = Field(default=1, gt=0)
    """Training: passes forward and backward in a step, whose gradients are added up."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Training: what the backward pass computes again."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Training: of matrix products; weights, gradients and moments are float32 either way."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Training."""
    compile: bool = True
    """Training: compiled, a block keeps less."""
    gpu: str | None = Field(default=None, description=f"Time: one of {', '.join(plan.GPUS)}; this machine's memory "
                            "when not set.")
    mfu: float = Field(default=0.4, gt=0, le=1)
    """Time: share of the GPU's bfloat16 peak that training reaches."""
    tokens: float | None = Field(default=None, gt=0)
    """Time: how many are read, for example 2.0e12."""
    price: float | None = Field(default=None, gt=0)
    """Time: of one GPU for an hour, in any currency."""
    lora_rank: int = Field(default=8, gt=0)
    """Fine-tuning: of the matrices added to all of a block's."""
    prefix: int = Field(default=128, gt=0)
    """Fine-tuning: keys and values that P-Tuning v2 trains in every layer."""
    rows: int = Field(default=1, gt=0)
    """Serving: sequences answered at once."""

    @model_validator(mode="after")
    def _used(self) -> PlanSettings:
        given = self.model_fields_set
        for name, needs in (("mfu", "gpu"), ("tokens", "gpu"), ("price", "tokens")):
            if name in given and getattr(self, needs) is None:
                raise ValueError(f"{name} has no effect without {needs}")
        if self.processes % (self.tensor * self.replicas):
            raise ValueError(f"processes {self.processes} is no multiple of tensor {self.tensor} x replicas "
                             f"{self.replicas}")
        return self


def plan_command(model: str, overrides: Sequence[str]) -> None:
    """`headwater plan MODEL NAME=VALUE ...`: settings of a recipe's stages are the recipe's, the others the plan's."""
    own = [one for one in overrides if "." not in one.partition("=")[0]]
    settings = PlanSettings.parse(with_overrides({}, own), where="headwater plan")
    show_plan(model, settings, [one for one in overrides if one not in own])


def show_plan(model: str, settings: PlanSettings, recipe: Sequence[str] = ()) -> None:
    """Print the tables of `headwater.plan` to standard output. recipe: overrides of the recipe that `model` names.
    Raises `InputError` and `SettingsError`."""
    shape, settings = _found(model, settings, recipe)
    gpu = None if settings.gpu is None else plan.find_gpu(settings.gpu)
    memory = total_memory_bytes() if gpu is None else gpu.gibibytes * GIGA
    where = "this machine" if settings.gpu is None else settings.gpu
    if settings.length is not None and settings.length > shape.longest:
        say(f"the model is made for {shape.longest:,} tokens; what {settings.length:,} would take:")
    print_result(_parameters(model, shape))
    print_result(_training(shape, settings, f"{where} has {_bytes(memory)}"))
    print_result(_finetuning(shape, settings))
    if gpu is not None:
        print_result(_time(shape, settings, gpu))
    print_result(_serving(shape, settings, memory))


def _found(model: str, settings: PlanSettings, recipe: Sequence[str]) -> tuple[ModelConfig, PlanSettings]:
    """Of a recipe, a run's or a model's folder, or an official model by name; the settings with what the recipe says.
    """
    from headwater.recipe.recipe import shipped_recipes

    path = Path(model)
    if not path.is_dir() and (path.suffix in (".yaml", ".yml") or model in shipped_recipes()):
        return _of_recipe(model, settings, recipe)
    if recipe:
        raise SettingsError(f"'{recipe[0]}' is a setting of a recipe, and {model} is none",
                            fix="give a recipe's file or name, or the plan's own settings: headwater plan --help")
    if path.is_dir():
        shape = read_config(find_model(path))[0]
    elif path.exists() or len(path.parts) > 1:
        raise InputError("neither a model folder nor a recipe" if path.exists() else "no such folder", where=path,
                         fix="give a model folder, a recipe (YAML), or an open model's official name")
    else:
        shape = preset(model)
    return shape, _filled(settings, length=shape.longest)


def _of_recipe(model: str, settings: PlanSettings, overrides: Sequence[str]) -> tuple[ModelConfig, PlanSettings]:
    from headwater.recipe.recipe import find_recipe, load_recipe
    from headwater.tokenizer.stage import TokenizerSettings
    from headwater.train.stage import PretrainSettings, model_config

    variables = read_yaml(find_recipe(model)).get("variables") or {}
    given = {one.partition("=")[0] for one in overrides}
    unset = [f"variables.{name}=any" for name, value in variables.items()  # no plan depends on them
             if value is None and f"variables.{name}" not in given]
    stages = [step.settings for step in load_recipe(model, [*unset, *overrides]).steps]
    pretrain = next((one for one in stages if isinstance(one, PretrainSettings)), None)
    tokenizer = next((one for one in stages if isinstance(one, TokenizerSettings)), None)
    if pretrain is None or tokenizer is None:
        raise InputError("the recipe pretrains no model with a tokenizer of its own", where=model,
                         fix="give a model folder, or an official model's name")
    trainer = pretrain.trainer
    readers, rows = trainer.parallel.readers(settings.processes), trainer.rows_at_once(settings.processes)
    chosen: dict[str, object] = {} if trainer.precision == "auto" else {"precision": trainer.precision}
    if trainer.compile != "auto":
        chosen["compile"] = trainer.compile == "on"
    return model_config(pretrain, tokenizer.vocab_size), _filled(
        settings, length=trainer.sequence_length, micro_rows=rows, accumulate=max(1, trainer.rows // (readers * rows)),
        tensor=trainer.parallel.tensor, replicas=trainer.parallel.replicas, recompute=trainer.recompute,
        optimizer=trainer.optimizer.name, **chosen)


def _filled(settings: PlanSettings, **values: object) -> PlanSettings:
    """The settings, with these values for what was not given."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set if getattr(settings, name) is not None}
    return PlanSettings.parse({**values, **given}, where="headwater plan")


def _parameters(model: str, shape: ModelConfig) -> Table:
    table = _table(f"{model}: parameters")
    for name, number in plan.count(shape)._asdict().items():
        table.add_row(name, f"{number:,}")
    table.add_section()
    table.add_row("all", f"{plan.parameters(shape):,}")
    return table


def _training(shape: ModelConfig, settings: PlanSettings, where: str) -> Table:
    """ZeRO's stages side by side; one process has none."""
    step = _step(settings)
    stages = [replace(step, zero=zero) for zero in _stages(settings)]
    found = [plan.training_memory(shape, one) for one in stages]
    table = _table(f"training on {settings.micro_rows} x {settings.length:,} tokens, memory of a process; {where}",
                   *(f"ZeRO {one.zero}" if step.processes > 1 else "one process" for one in stages))
    for name in plan.Memory._fields[1:]:
        numbers = [getattr(one, name) for one in found]
        if any(numbers):
            table.add_row(name, *(_bytes(number) if number else "-" for number in numbers))
    table.add_section()
    table.add_row("all", *(_bytes(one.total) for one in found))
    table.add_row("highest at", *(one.moment for one in found))
    written = "while a checkpoint is written" + (" (of the host)" if step.device == "cuda" else "")
    table.add_row(written, *("+ " + _bytes(plan.checkpoint_bytes(one, shape)) for one in stages))
    if step.processes > 1:
        table.add_row("leader, at start and end" + (" (of the host)" if step.device == "cuda" else ""), *(
            _bytes(plan.gathering_memory(shape, one).total if step.device == "cpu" else 4 * plan.parameters(shape))
            for one in stages))
    if step.readers > 1 and step.replicas == 1:
        table.add_row("as the ZeRO paper counts", *(_bytes(plan.zero_bytes(
            plan.parameters(shape) / step.tensor, step.readers, one.zero)) for one in stages))
    return table


def _step(settings: PlanSettings) -> plan.Step:
    assert settings.length is not None
    return plan.Step(settings.micro_rows, settings.length, settings.precision == "bfloat16", settings.compile,
                     settings.recompute, settings.optimizer, settings.accumulate > 1, settings.processes, 2,
                     settings.tensor, settings.replicas, "cpu" if settings.gpu is None else "cuda")


def _finetuning(shape: ModelConfig, settings: PlanSettings) -> Table:
    """What learns against the form of what stays as it is; a full tuning trains the float32 weights themselves."""
    step = replace(_step(settings), processes=1, tensor=1, replicas=1)
    table = _table(f"fine-tuning on {settings.micro_rows} x {settings.length:,} tokens, memory of one process by the "
                   "form of the base", *plan.BASES)
    table.add_row("full", _bytes(plan.training_memory(shape, step).total), *("-" for _ in plan.BASES[1:]))
    for name, trained in ((f"LoRA, rank {settings.lora_rank}", plan.Trained(rank=settings.lora_rank)),
                          (f"P-Tuning v2, {settings.prefix} a layer", plan.Trained(prefix=settings.prefix))):
        found = [_bytes(plan.finetuning_memory(shape, step, base, trained).total)
                 if step.half or base != "bfloat16" else "-" for base in plan.BASES]
        table.add_row(f"{name}: {trained.parameters(shape):,} weights", *found)
    table.add_section()
    table.add_row("the base alone", *(_bytes(plan.base_bytes(shape, base)) for base in plan.BASES))
    return table


def _stages(settings: PlanSettings) -> list[Literal[0, 1, 2, 3]]:
    """Those that can be with the layout: one that replicates everything has no replicas of parts."""
    if settings.processes == settings.tensor:
        return [0]
    if settings.replicas > 1:
        return [2, 3]
    return [0, 2, 3] if settings.tensor > 1 else [0, 1, 2, 3]


def _time(shape: ModelConfig, settings: PlanSettings, gpu: plan.Gpu) -> Table:
    assert settings.length is not None
    speed = plan.tokens_per_second(shape, settings.length, gpu, settings.processes, settings.mfu)
    table = _table(f"time on {settings.processes:,} x {settings.gpu} at {settings.mfu:.1%} of {gpu.tflops:,.0f} TFLOPS")
    table.add_row("operations a token, 6 N + 12 L H Q T", f"{plan.flops_per_token(shape, settings.length):.4g}")
    table.add_row("tokens a second", f"{speed:,.0f}")
    if settings.tokens is not None:
        days = plan.days(settings.tokens, speed)
        table.add_row(f"days for {settings.tokens:.3g} tokens", f"{days:,.2f}")
        table.add_row("GPU hours", f"{24 * days * settings.processes:,.0f}")
    if settings.tokens is not None and settings.price is not None:
        table.add_row("price", f"{plan.price(settings.tokens, speed, settings.processes, settings.price):,.0f}")
    return table


def _serving(shape: ModelConfig, settings: PlanSettings, memory: int) -> Table:
    assert settings.length is not None
    token = plan.cache_bytes_per_token(shape, 2)
    table = _table("serving", "weights", f"largest batch of {settings.length:,} tokens")
    for form in plan.FORMS:
        table.add_row(form, _bytes(plan.served_bytes(shape, form)),
                      f"{plan.largest_batch(shape, form, settings.length, memory):,}")
    table.add_section()
    table.add_row("cache per token, bfloat16", f"{token:,} B")
    table.add_row(f"cache of {settings.rows} x {settings.length} tokens", _bytes(token * settings.rows
                                                                               * settings.length))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, show_header=bool(columns), title_justify="left")
    table.add_column(max_width=30)
    for name in columns or ("",):
        table.add_column(name, justify="right", min_width=9)
    return table


def _bytes(count: float) -> str:
    unit, scale = next(((unit, scale) for unit, scale in (("GiB", GIGA), ("MiB", 2**20), ("KiB", 2**10))
                        if count >= scale), ("B", 1))
    return f"{count / scale:,.1f} {unit}"
