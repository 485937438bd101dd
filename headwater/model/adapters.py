"""Adapters of a decoder: put into it, merged with it, written and read in the `peft` library's form."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from headwater.artifacts import read_json, write_json
from headwater.errors import CheckpointError, InputError
from headwater.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS, base_of, is_adapter
from headwater.model.decoder import Decoder
from headwater.model.extension import KeptContext
from headwater.model.families import family_for
from headwater.model.families.names import Entry
from headwater.model.folder import whose
from headwater.model.lora import Adapted, Choice, Chosen, Lora, LowRank, Rows
from headwater.model.prefix import KIND as PREFIX
from headwater.model.prefix import Prefix, PrefixSettings, load_prefix, save_prefix
from headwater.model.tensors import TensorFile, read_tensors, write_tensors
from headwater.progress import say
from headwater.settings import Settings, nearest_name

CONTEXT = "context.json"
"""Beside an adapter: what `peft` has no word for."""
ONE = "default"
"""What an adapter is called where there is no other, as `peft` calls it."""
MOST = 1_000_000
"""Of a rank and of alpha: weights with more of it would not be finite."""
_PREFIX, _OWNER = "base_model.model.", "model"
_USUAL: dict[str, Any] = {"bias": ("none",), "use_dora": (False,), "fan_in_fan_out": (False,), "lora_bias": (False,),
                          "modules_to_save": (None, []), "alpha_pattern": ({}, None), "layer_replication": (None,),
                          "megatron_config": (None,),
                          "rank_pattern": ({}, None), "trainable_token_indices": (None,), "corda_config": (None,),
                          "target_parameters": (None, [])}
"""What an adapter's configuration may say of what is not built here."""


class LoraSettings(Settings):
    """Which matrices learn, and in how many dimensions."""

    rank: int = Field(default=8, gt=0, le=MOST)
    alpha: float = Field(default=16.0, gt=0, le=MOST)
    """Additions are multiplied by alpha / rank."""
    stabilised: bool = False
    """By alpha / sqrt(rank) instead (rsLoRA, 2312.03732), so that a larger rank learns no slower."""
    targets: list[str] = Field(default=["all"], min_length=1)
    """Official names of the blocks' matrices (q_proj, query_key_value ...), or all."""

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.stabilised else self.rank)


class Target(NamedTuple):
    """An official matrix inside a block, and which rows of which of our layers it is."""

    layer: str
    """Our linear layer by name."""
    rows: Rows
    entry: Entry
    """How the official rows are ordered."""


def targets(model: Decoder) -> dict[str, Target]:
    """The blocks' matrices by their official names."""
    found = {}
    for entry in family_for(model.config).entries(model.config):
        layer, _, kind = entry.ours.rpartition(".")
        if kind != "weight" or not layer.startswith("blocks.") or "norm" in layer:
            continue
        start = 0
        for name, count in zip(entry.theirs, entry.rows or (0,), strict=True):
            stop = start + (count or _linear(model, layer).out_features)
            found[name.removesuffix(".weight")] = Target(layer, Rows(start, stop), entry)
            start = stop
    return found


def _linear(model: Decoder, layer: str) -> Any:
    module = model.get_submodule(layer)
    return module.base if isinstance(module, Adapted) else module


def attach_prefix(model: Decoder, settings: PrefixSettings, seed: int) -> Decoder:
    """Freeze the model and put a new prefix before it, in place; it is float32."""
    model.requires_grad_(False)
    model.prefix = Prefix(model.config, settings, seed).to(model.device)
    return model


def attach(model: Decoder, settings: LoraSettings, seed: int, names: Sequence[str] = (ONE,)) -> Decoder:
    """Freeze the model and put new adapters into it, in place, of which passes use the first; they are float32.

    Raises `InputError` for matrices that the model does not have.
    """
    known = targets(model)
    wanted = {name: one for name, one in known.items() if "all" in settings.targets or _leaf(name) in settings.targets}
    leaves = sorted({_leaf(name) for name in known})
    for name in settings.targets:
        if name not in ("all", *leaves):
            nearest = nearest_name(name, leaves)
            raise InputError(f"the blocks of this model have no matrix {name!r}", where="lora.targets",
                             fix=f"did you mean {nearest}?" if nearest else f"known: {', '.join(leaves)}")
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    ranks = dict.fromkeys(wanted, settings.rank)
    for name in reversed(names):
        for part in _put(model, name, settings.scale, wanted, ranks, torch.float32):
            part.draw(generator)
    return model


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _put(model: Decoder, name: str, scale: float, wanted: dict[str, Target], ranks: dict[str, int],
         dtype: torch.dtype) -> list[LowRank]:
    """Put an empty adapter into the model and let every pass use it; its parts in the order of `wanted`."""
    choice = choice_of(model) or Choice()
    layers: dict[str, dict[str, LowRank]] = {}
    for official, target in wanted.items():
        linear = _linear(model, target.layer)
        part = LowRank(target.rows, linear.in_features, ranks[official], dtype=dtype, device=_device(linear))
        layers.setdefault(target.layer, {})[_leaf(official)] = part
    for layer, parts in layers.items():
        module = model.get_submodule(layer)
        if not isinstance(module, Adapted):
            parent, _, leaf = layer.rpartition(".")
            module = Adapted(module, choice)
            setattr(model.get_submodule(parent), leaf, module)
        module.add(name, Lora(scale, parts))
    choice.now = Chosen((name,))
    return [layers[target.layer][_leaf(official)] for official, target in wanted.items()]


def _lora(layer: nn.Module, name: str) -> Lora | None:
    lora = layer.adapters[name] if isinstance(layer, Adapted) and name in layer.adapters else None
    assert lora is None or isinstance(lora, Lora)
    return lora


def _device(linear: nn.Module) -> torch.device:
    return next(tensor.device for tensor in (*linear.parameters(), *linear.buffers()))


def choice_of(model: Decoder) -> Choice | None:
    """What says which adapter a pass uses; None where there is none."""
    return next((one.choice for one in model.modules() if isinstance(one, Adapted)), None)


@contextlib.contextmanager
def without_adapters(model: Decoder) -> Iterator[None]:
    """The model as it is by itself."""
    choice, prefix = choice_of(model), model.prefix
    model.prefix = None
    try:
        with contextlib.nullcontext() if choice is None else choice.using(Chosen()):
            yield
    finally:
        model.prefix = prefix


@contextlib.contextmanager
def silenced(model: Decoder) -> Iterator[None]:
    """The model as it is by itself, by the arithmetic of one with adapters: what they add is 0."""
    loras = [one for _, layer in adapted(model) for name in layer.adapters if (one := _lora(layer, name)) is not None]
    scales = [one.scale for one in loras]
    try:
        for one in loras:
            one.scale = 0.0
        yield
    finally:
        for one, scale in zip(loras, scales, strict=True):
            one.scale = scale


def adapted(model: Decoder) -> Iterator[tuple[str, Adapted]]:
    """The layers with adapters, by name."""
    yield from ((name, one) for name, one in model.named_modules() if isinstance(one, Adapted))


@torch.no_grad()
def merge(model: Decoder, name: str = ONE) -> dict[str, Adapted]:
    """Add an adapter to the weights, in place: a plain model again. Returns what `unmerge` takes.

    W + s B A is computed in float32 and rounded once to W's dtype. The weights before are kept (of a folder's mapped
    pages without memory), so that `unmerge` gives the same bits back. Raises `InputError` for packed weights.
    """
    before = dict(adapted(model))
    for layer, one in before.items():
        if not isinstance(one.base, nn.Linear):
            raise InputError(f"an adapter is not merged with packed weights ({type(one.base).__name__})",
                             fix="load its model as it is stored, not packed")
        parent, _, leaf = layer.rpartition(".")
        setattr(model.get_submodule(parent), leaf, _merged(one, name))
    return before


def _merged(layer: Adapted, name: str) -> nn.Linear:
    base = layer.base
    assert isinstance(base, nn.Linear)
    lora = _lora(layer, name)
    if lora is None:
        return base
    weight = base.weight.detach().float().clone()
    for part in lora.parts():
        weight[part.rows.here] += lora.difference(part).to(weight.device)
    found = nn.Linear(base.in_features, base.out_features, bias=base.bias is not None, device="meta")
    found.weight, found.bias = nn.Parameter(weight.to(base.weight.dtype), base.weight.requires_grad), base.bias
    return found


def unmerge(model: Decoder, before: dict[str, Adapted]) -> None:
    """Undo `merge`, bit for bit."""
    for layer, one in before.items():
        parent, _, leaf = layer.rpartition(".")
        setattr(model.get_submodule(parent), leaf, one)


def kind_of(folder: Path) -> str | None:
    """What an adapter's folder says it holds, as a `peft_type`."""
    values = read_json(Path(folder) / ADAPTER_CONFIG)
    return values.get("peft_type") if isinstance(values, dict) else None


def context_of(folder: Path) -> KeptContext:
    """The longer context that an adapter was trained with."""
    path = Path(folder) / CONTEXT
    return KeptContext.parse(read_json(path), where=path) if path.is_file() else KeptContext()


def owner_of(folder: Path) -> str | None:
    """Beside whose weights an adapter was trained, as `whose` tells them; None where it does not say."""
    file = TensorFile(Path(folder) / ADAPTER_WEIGHTS)
    file.close()
    return file.metadata.get(_OWNER)


def tell_owner(folder: Path, base: Path) -> None:
    """Say so where an adapter was trained beside other weights than those of `base`."""
    owner = owner_of(folder)
    if owner is not None and owner != whose(base):
        say(f"note: the adapter {folder} was trained beside other weights than those of {base}")


def require_no_prefix(folder: Path, doing: str) -> None:
    """Refuse a folder that stands for a model with a prefix, which is neither merged nor learned beside: `doing` says
    what is asked. Raises `InputError`."""
    found = Path(folder)
    while is_adapter(found):
        if kind_of(found) == PREFIX:
            raise InputError(f"a prefix of keys and values stays beside its model, and cannot be {doing}", where=found,
                             fix=f"give its model, {base_of(found)}, or one tuned with method=lora or full")
        found = base_of(found)


def save_adapter(model: Decoder, folder: Path, base: Path, name: str = ONE, *,
                 context: KeptContext = KeptContext()) -> None:  # noqa: B008 (frozen)
    """Write an adapter, low-rank matrices as `peft` does, the weights last. The configuration names the model's folder,
    `base`, by the way from the adapter's to it. context: the longer one that the adapter was trained with."""
    folder = Path(folder)
    if context != KeptContext():
        write_json(folder / CONTEXT, context.model_dump(mode="json", exclude_unset=True))
    where = {"base_model_name_or_path": os.path.relpath(base, folder)}
    if model.prefix is not None:
        save_prefix(model.prefix, folder, {_OWNER: whose(base)}, **where)
    else:
        _save_lora(model, folder, base, name, where)


def _save_lora(model: Decoder, folder: Path, base: Path, name: str, where: dict[str, str]) -> None:
    tensors, scale, rank, leaves = {}, 1.0, 1, set()
    for official, target in targets(model).items():
        lora = _lora(model.get_submodule(target.layer), name)
        part = None if lora is None else lora.part(_leaf(official))
        if lora is None or part is None:
            continue
        tensors[f"{_PREFIX}{official}.lora_A.weight"] = part.a.detach()
        tensors[f"{_PREFIX}{official}.lora_B.weight"] = target.entry.to_official(part.b.detach()).contiguous()
        scale, rank = lora.scale, len(part.a)
        leaves.add(_leaf(official))
    write_json(folder / ADAPTER_CONFIG, {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True, "r": rank, "lora_alpha": scale * rank,
        "lora_dropout": 0.0, "bias": "none", "target_modules": sorted(leaves),
        **where})
    write_tensors(folder / ADAPTER_WEIGHTS, tensors, {"format": "pt", _OWNER: whose(base)})


def load_adapter(model: Decoder, folder: Path, name: str = ONE, *, dtype: torch.dtype | None = None) -> None:
    """Put the adapter of a folder into the model and use it: a prefix of ours, or low-rank matrices that we or `peft`
    wrote, beside those that the model has.

    dtype: of the matrices; the model's when None. Raises `CheckpointError` for what is not here, not known, or not of
    this model; the model is unchanged then.
    """
    if kind_of(folder) == PREFIX:
        model.prefix = load_prefix(Path(folder), model.config).to(model.device, dtype or model.dtype)
        model.prefix.requires_grad_(False)
        return
    config, tensors = _read(Path(folder))
    known = targets(model)
    found = _pairs(tensors, model, known, Path(folder))
    _check_targets(config, set(known), set(found), Path(folder) / ADAPTER_CONFIG)
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    ranks = {official: len(pair["A"]) for official, pair in found.items()}
    if set(ranks.values()) != {config["r"]}:
        raise CheckpointError(f"r {config['r']} is not the rank of the matrices: {sorted(set(ranks.values()))}",
                              where=Path(folder) / ADAPTER_CONFIG, fix="copy the adapter again")
    parts = _put(model, name, scale, {official: known[official] for official in found}, ranks, dtype or model.dtype)
    for (official, pair), part in zip(found.items(), parts, strict=True):
        part.a.data.copy_(pair["A"])
        part.b.data.copy_(known[official].entry.from_official(pair["B"]))
        part.requires_grad_(False)


def _pairs(tensors: dict[str, Tensor], model: Decoder, known: dict[str, Target], folder: Path
           ) -> dict[str, dict[str, Tensor]]:
    """A and B of every official matrix. Raises `CheckpointError` for those that are not this model's."""
    found: dict[str, dict[str, Tensor]] = {}
    fix = "give the model that the adapter was trained on"
    for key, tensor in tensors.items():
        official, kind = _official(key)
        if kind is None or official not in known:
            raise CheckpointError(f"tensor {key} is of no matrix of this model", where=folder, fix=fix)
        found.setdefault(official, {})[kind] = tensor
    for official, pair in found.items():
        width, rows = _linear(model, known[official].layer).in_features, known[official].rows
        rank = len(pair["A"]) if "A" in pair else 0
        if {kind: tuple(one.shape) for kind, one in pair.items()} != {
                "A": (rank, width), "B": (rows.stop - rows.start, rank)}:
            shapes = " and ".join(f"{kind} {list(one.shape)}" for kind, one in sorted(pair.items()))
            raise CheckpointError(f"{official} has {shapes}, the model asks for A [r, {width}] and B "
                                  f"[{rows.stop - rows.start}, r]", where=folder, fix=fix)
    return found


def _check_targets(config: dict[str, Any], known: set[str], found: set[str], path: Path) -> None:
    """Raises `CheckpointError` where `target_modules` names other matrices of the model than those that are here."""
    wanted = config.get("target_modules")
    if wanted is None or wanted == "all-linear":
        return
    named = {official for official in known if _is_target(official, wanted, path)}
    narrowed = any(config.get(key) not in (None, [], "") for key in ("layers_to_transform", "exclude_modules"))
    wrong = [*(f"{official} is here and not named" for official in sorted(found - named)),
             *(f"{official} is named and not here" for official in sorted(named - found) if not narrowed)]
    if wrong:
        raise CheckpointError(f"target_modules {wanted!r} and the tensors disagree: {', '.join(wrong[:3])}"
                              + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""), where=path,
                              fix="copy the adapter again, configuration and tensors of one training")


def _is_target(official: str, wanted: Any, path: Path) -> bool:
    """As `peft` says: a pattern of whole names, or a list of names or of their ends."""
    if isinstance(wanted, list) and all(isinstance(one, str) for one in wanted):
        return any(official == one or official.endswith(f".{one}") for one in wanted)
    try:
        return re.fullmatch(wanted, official) is not None
    except (re.error, TypeError):
        raise CheckpointError(f"target_modules {wanted!r} is neither a list of names nor a pattern", where=path,
                              fix="copy the adapter again") from None


def _official(key: str) -> tuple[str, str | None]:
    """The matrix that a tensor of a file belongs to, and which of the two it is."""
    for kind in ("A", "B"):
        if key.startswith(_PREFIX) and key.endswith(f".lora_{kind}.weight"):
            return key.removeprefix(_PREFIX).removesuffix(f".lora_{kind}.weight"), kind
    return key, None


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    path = folder / ADAPTER_CONFIG
    config = read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(f"expected an object, found {type(config).__name__}", where=path,
                              fix="copy the adapter again")
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"an adapter of peft_type {config.get('peft_type')!r}; known are 'LORA' and {PREFIX!r}",
                              where=path, fix="give a LoRA adapter's folder, or a prefix of ours")
    unusual = [f"{key} {config[key]!r}" for key, usual in _USUAL.items() if key in config and config[key] not in usual]
    if unusual:
        raise CheckpointError(f"{' and '.join(unusual)} {'are' if len(unusual) > 1 else 'is'} not supported",
                              where=path, fix="give a plain LoRA adapter: low-rank matrices of linear layers alone")
    for key in ("r", "lora_alpha"):
        if key not in config:
            raise CheckpointError(f"{key} is missing", where=path, fix="copy the adapter again")
        if not isinstance(config.get(key), (int, float)) or not 0 < config[key] <= MOST:
            raise CheckpointError(f"{key} {config.get(key)!r} is not a number above 0, up to {MOST:,}", where=path,
                                  fix="copy the adapter again")
    tensors = read_tensors(folder / ADAPTER_WEIGHTS)
    if not tensors:
        raise CheckpointError("the adapter is empty", where=folder / ADAPTER_WEIGHTS, fix="copy the adapter again")
    if not all(bool(one.isfinite().all()) for one in tensors.values()):  # beside others it would be in their rows too
        raise CheckpointError("the adapter holds numbers that are not finite", where=folder / ADAPTER_WEIGHTS,
                              fix="train it again, at a lower rate")
    return config, tensors
