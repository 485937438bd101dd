"""Model folders: `config.json` and weights in the official names, read tensor by tensor and written whole."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headwater.artifacts import atomic_write, read_json, write_json
from headwater.errors import CheckpointError, HeadwaterError, InputError, SettingsError
from headwater.folders import CONFIG, base_of, code_files, is_adapter, model_folder, tokenizer_files
from headwater.model.adapters import context_of, load_adapter, merge, tell_owner
from headwater.model.config import ModelConfig
from headwater.model.decoder import Decoder
from headwater.model.extension import ContextSettings, extended
from headwater.model.families import Family, family_for, family_of
from headwater.model.families.names import Entry
from headwater.model.folder import INDEX, SINGLE, WeightFolder
from headwater.model.packed import (
    BASES,
    Base,
    Form,
    PackedLinear,
    linear_names,
    packed_linears,
    place_forms,
    place_packed,
)
from headwater.model.quantized import Layout, layout_of, quantization_of, stored_form, written
from headwater.model.replacement import replace_vectors
from headwater.model.soundness import require_finite, require_fitting, require_scales
from headwater.model.tensors import Stored, grouped, write_tensors
from headwater.progress import track

SHARD_BYTES = 5_000_000_000


def read_config(folder: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """The configuration of a model folder, or of an adapter's model, and the raw `config.json`. Raises
    `CheckpointError`."""
    if is_adapter(folder):
        config, values = read_config(base_of(folder))
        return extended(config, context_of(folder)), values
    path = Path(folder) / CONFIG
    if not path.exists():
        what = "not a model folder: it has no config.json" if Path(folder).exists() else "no such folder"
        raise CheckpointError(what, where=folder,
                              fix="give a folder that holds config.json and model.safetensors")
    family = None
    try:
        values = read_json(path)
        if not isinstance(values, dict):
            raise ValueError(f"it holds {type(values).__name__}, not an object")
        family = family_of(values)
        return family.config_from(values), values
    except (HeadwaterError, ValueError, TypeError, AttributeError) as error:
        what, fix = str(error), "correct config.json"
        if isinstance(error, SettingsError):
            what = f"{error.where}: {error.what}" if error.where else error.what
            for ours, theirs in getattr(family, "NAMES", {}).items():
                what = what.replace(f"'{ours}'", f"'{theirs}'")
        elif isinstance(error, HeadwaterError):
            what, fix = error.what, error.fix or fix
        raise CheckpointError(f"unusable configuration: {what}", where=path, fix=fix) from None


def require_floats(folder: Path, doing: str, fix: str) -> None:
    """Refuse a folder whose matrices are packed, and do not learn: `doing` says what is asked. Raises `InputError`."""
    packed = quantization_of(read_config(folder)[1])
    if packed:
        form = packed.get("quant_method") if isinstance(packed, dict) else packed
        raise InputError(f"the matrices of this model are packed ({form}), and cannot be {doing}", where=folder,
                         fix=fix)


def load_model(path: Path | str, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None,
               mmap: bool = True, context: ContextSettings | None = None, base: Base | None = None) -> Decoder:
    """A decoder in evaluation mode from an official model folder of any family, or from an adapter's folder: its model
    with the adapter merged, or, beside packed matrices, in use.

    dtype: of the float weights; None takes what config.json says, else what most of the file is. device: the CPU when
    None. mmap: on the CPU, weights that need no conversion stay on the file's pages and are read when first used;
    changing them changes no file. All others are read straight into their place, so memory peaks at the model's size.
    context: a longer one than the model's own, and how its positions reach it. base: the form into which the blocks'
    matrices are packed while they are read, one by one; as they are stored when None.
    Raises `InputError` for what of these cannot be had and `CheckpointError` for the folder; names, shapes
    and the configuration are checked before any weight is read.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1):
        raise InputError(f"dtype {dtype!r} is not a float type", where=path,
                         fix="give torch.float32, torch.float16 or torch.bfloat16")
    if base not in (None, *BASES):
        raise InputError(f"base {base!r} is no form of packed weights", where=path, fix=f"known: {', '.join(BASES)}")
    place = _device(device)
    adapters, path = _beside(Path(path))
    config, values = read_config(path)
    for one in adapters:
        config = extended(config, context_of(one))
    trained = config.max_position_embeddings
    config = config if context is None else extended(config, context)
    with WeightFolder(path) as weights:
        kind = dtype or _dtype(values, weights.stored, path)
        model = load_weights(config, values, weights, kind, place, mmap=mmap, base=base)
    for one in adapters:
        tell_owner(one, base_of(one))
        load_adapter(model, one)
        if not any(packed_linears(model)):
            merge(model)
        elif len(adapters) > 1:
            raise InputError("an adapter that was learned beside another, and packed matrices", where=one,
                             fix="leave the matrices as they are stored")
    if context is not None and context.method == "vectors":
        replace_vectors(model, trained, context, path)
    return model


def _beside(path: Path) -> tuple[list[Path], Path]:
    """The adapters that a folder stands for, the first learned first, and the model beside which they were learned."""
    adapters: list[Path] = []
    model = model_folder(path)
    while path != model:
        adapters.insert(0, path)
        path = base_of(path)
    return adapters, model


def _device(device: torch.device | str | None) -> torch.device:
    try:
        found = torch.device(device or "cpu")
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device {device!r}: {str(error).splitlines()[0]}", fix="give cpu or cuda") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError("PyTorch finds no CUDA device", where=found, fix="give device='cpu'")
    return found


def load_weights(config: ModelConfig, values: dict[str, Any], weights: WeightFolder, kind: torch.dtype | None,
                 device: torch.device, *, mmap: bool, base: Base | None = None) -> Decoder:
    """The decoder, its weights of type `kind`, or each as it is stored; the blocks' matrices in the form `base`."""
    with torch.device("meta"):
        model = Decoder(config)
    family = family_of(values)
    layout = layout_of(values, weights.folder)
    if layout is not None:
        forms = _stored_forms(model, family, layout, weights.folder)
        if bases := sorted({form.base for form in forms.values()}) if base is not None else []:
            if base not in bases:
                raise InputError(f"the matrices are packed as {' and '.join(bases)} already, not as {base}",
                                 where=weights.folder, fix="give the float model")
            base = None
        with torch.device("meta"):
            place_forms(model, forms)
    stored, state = weights.stored, _state(model)
    wanted = [entry for entry in family.entries(config) if entry.ours in state]
    packed = {f"{name}.{kind}" for name, one in packed_linears(model) for kind in one.state_dict() if kind != "bias"}
    _check(state, wanted, weights, packed, layout)
    strange = [name for name, one in stored.items() if one.dtype.itemsize == 1 and one.dtype.is_floating_point]
    if strange:
        raise CheckpointError(f"{len(strange)} tensors are float8, which mean nothing without the scales of their "
                              f"quantization: {grouped(strange)[:200]}", where=weights.folder,
                              fix="give the float16, bfloat16 or float32 form of this checkpoint")
    if base is not None:
        with torch.device("meta"):
            names = {f"{name}.weight" for name in place_packed(model, head=False, form=base)}
        _pack(model, [entry for entry in wanted if entry.ours in names], state, weights, device)
        wanted = [entry for entry in wanted if entry.ours not in names]
    for entry in wanted:
        place, held = state[entry.ours], layout if entry.ours in packed else None
        first = place.dtype if held is not None else stored[entry.theirs[0]].dtype
        own = first if held is not None or kind is None or not place.is_floating_point() else kind
        found = None
        if mmap and device.type == "cpu" and not entry.heads and first == own:
            found = weights.mapped(entry.theirs) if held is None else held.mapped(weights, entry.theirs)
        if found is None:
            found = _filled(entry, weights, torch.empty(place.shape, dtype=own, device=device), held)
        _put(model, entry.ours, found)
    if layout is not None:
        for entry, layer in _packed_entries(model, family):
            require_scales(layer, entry, weights.folder)
    if layout is not None or base is not None:
        _require_finite(model, family, weights.folder)
    if config.tie_word_embeddings and isinstance(model.head, nn.Linear):
        model.head.weight = model.embedding.weight
    model.positions.table = model.positions.fresh_table()
    return model.to(device).eval()


def _stored_forms(model: Decoder, family: Family, layout: Layout, folder: Path) -> dict[str, Form]:
    """Of the linear layers that the folder holds packed, by our names."""
    found = {}
    linears = linear_names(model)
    if model.config.tie_word_embeddings:
        linears.remove("head")
    for ours, theirs in _modules(model.config, family, linears).items():
        forms = {layout.form(module) for module in theirs}
        if len(forms) > 1:
            raise CheckpointError(f"{grouped(theirs)} are packed in different ways, and are one matrix here",
                                  where=folder, fix="give the float model")
        form = forms.pop()
        if form is None:
            continue
        columns = model.get_parameter(f"{ours}.weight").shape[1]
        if form.group and columns % form.group:
            raise CheckpointError(f"group_size {form.group} does not divide the {columns} columns of "
                                  f"{grouped(theirs)}", where=folder / CONFIG, fix="correct config.json")
        found[ours] = form
    return found


def _modules(config: ModelConfig, family: Family, linears: list[str]) -> dict[str, tuple[str, ...]]:
    """The official names of linear layers, by ours."""
    entries = {entry.ours: entry.theirs for entry in family.entries(config)}
    return {name: tuple(one.removesuffix(".weight") for one in entries[f"{name}.weight"]) for name in linears
            if f"{name}.weight" in entries}


def _state(model: Decoder) -> dict[str, Tensor]:
    """Our tensors by name; a tied head is the embedding and not one of them."""
    state = dict(model.state_dict())
    if model.config.tie_word_embeddings and isinstance(model.head, nn.Linear):
        state.pop("head.weight")
    return state


def _dtype(values: dict[str, Any], stored: dict[str, Stored], folder: Path) -> torch.dtype:
    name = values.get("dtype", values.get("torch_dtype"))
    if name is not None:
        found = getattr(torch, str(name).removeprefix("torch."), None)
        if isinstance(found, torch.dtype) and found.is_floating_point and found.itemsize > 1:
            return found
        raise CheckpointError(f"dtype {name!r} is not a float type", where=folder / CONFIG,
                              fix="write float32, float16 or bfloat16")
    sizes = Counter(one.dtype for one in stored.values() if one.dtype.is_floating_point)
    return sizes.most_common(1)[0][0] if sizes else torch.float32


def _filled(entry: Entry, weights: WeightFolder, tensor: Tensor, layout: Layout | None = None) -> Tensor:
    for name, part in zip(entry.theirs, entry.parts(tensor), strict=True):
        if layout is None:
            weights.read_into(name, part)
        else:
            layout.read(weights, name, part)
        if entry.heads:
            part.copy_(entry.from_official(part.clone()))
    return tensor


def _pack(model: Decoder, entries: list[Entry], shapes: dict[str, Tensor], weights: WeightFolder,
          device: torch.device) -> None:
    """Fill the packed layers, each from its matrix, which is read into one place after the others."""
    stored = weights.stored
    sizes = [shapes[entry.ours].numel() * stored[entry.theirs[0]].dtype.itemsize for entry in entries]
    room = torch.empty(max(sizes, default=0), dtype=torch.uint8, device=device)
    for entry, size in zip(track(entries, "packing"), sizes, strict=True):
        matrix = room[:size].view(stored[entry.theirs[0]].dtype).view(shapes[entry.ours].shape)
        layer = model.get_submodule(entry.ours.removesuffix(".weight"))
        assert isinstance(layer, PackedLinear)
        for name, part in zip(entry.theirs, entry.parts(_filled(entry, weights, matrix)), strict=True):
            require_finite(name, part, weights.folder)
        layer.quantize(matrix)
        require_fitting(layer, entry, weights.folder)


def require_sound(model: Decoder, folder: Path) -> None:
    """Of a model that was read from `folder`, and maybe packed since: all float tensors are finite, and the scales of
    packed ones. Raises `InputError` with the tensor's official name."""
    family = family_for(model.config)
    for entry, layer in _packed_entries(model, family):
        require_fitting(layer, entry, folder)
    _require_finite(model, family, folder)


def _require_finite(model: Decoder, family: Family, folder: Path) -> None:
    state = _state(model)
    for entry in family.entries(model.config):
        if entry.ours in state:
            for name, part in zip(entry.theirs, entry.parts(state[entry.ours]), strict=True):
                require_finite(name, part, folder)


def _packed_entries(model: Decoder, family: Family) -> Iterator[tuple[Entry, PackedLinear]]:
    """The packed layers, each with the names that its matrix would have."""
    entries = {entry.ours: entry for entry in family.entries(model.config)}
    for name, layer in packed_linears(model):
        if f"{name}.weight" in entries:
            yield entries[f"{name}.weight"], layer


def _put(model: Decoder, name: str, tensor: Tensor) -> None:
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    if leaf in module._parameters:
        module._parameters[leaf] = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
    else:
        module._buffers[leaf] = tensor


def _check(ours: dict[str, Tensor], wanted: list[Entry], weights: WeightFolder, packed: set[str],
           layout: Layout | None) -> None:
    """Names and shapes of all tensors, before any is read."""
    expected: dict[str, tuple[int, ...]] = {}
    optional: set[str] = set()
    for entry in wanted:
        shape = tuple(ours[entry.ours].shape)
        for name, rows in zip(entry.theirs, entry.rows or (shape[0],), strict=True):
            own = (rows, *shape[1:])
            if layout is None or entry.ours not in packed:
                expected[name] = own
            else:
                expected |= layout.holds(name, own)
                optional |= {f"{name.rpartition('.')[0]}.{kind}" for kind in layout.OPTIONAL}
    stored, folder = weights.stored, weights.folder
    missing = [name for name in expected if name not in stored]
    extra = [name for name in stored if name not in expected and name not in optional and name != "lm_head.weight"]
    if "lm_head.weight" in stored and "lm_head.weight" not in expected and "head.weight" in ours:
        extra.append("lm_head.weight")
    wrong: dict[tuple[str, str], list[str]] = {}
    for name, shape in expected.items():
        if name in stored and stored[name].shape != shape:
            wrong.setdefault((_words(stored[name].shape), _words(shape)), []).append(name)
    shapes = [f"{grouped(names)} {'is' if len(names) == 1 else 'are'} {found}, config.json asks for {asked}"
              for (found, asked), names in wrong.items()]
    problems = [f"{len(missing)} missing: {grouped(missing)}" if missing else "",
                f"{len(extra)} unexpected: {grouped(extra)}" if extra else "",
                f"{sum(map(len, wrong.values()))} of another shape: {'; '.join(shapes)}" if shapes else ""]
    if any(problems):
        raise CheckpointError("weights do not fit config.json: " + "; ".join(filter(None, problems)), where=folder,
                              fix="use the config.json that belongs to these weights")


def _words(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(str(size)[:24] for size in shape[:8])}]"


def save_model(model: Decoder, folder: Path, *, tokenizer_from: Path | None = None,
               shard_bytes: int = SHARD_BYTES) -> None:
    """Write a model folder in its family's official form, every file atomically, the weights last.

    tokenizer_from: a folder whose tokenizer files are copied; what its config.json says beyond a decoder's shape
    (token ids, names) is kept when it is of the same family, its modelling code too. More than `shard_bytes` are
    written as shards. Raises `InputError` for a model with a prefix.
    """
    if model.prefix is not None:
        raise InputError("a prefix of keys and values is no part of a model's folder", where=folder,
                         fix="use the adapter's folder as it is; its model is in the folder that it names")
    folder = Path(folder)
    family = family_for(model.config)
    extras = _extras(family, tokenizer_from, model.config.num_hidden_layers)
    values = {**extras, **family.config_to(model.config), "torch_dtype": str(model.dtype).removeprefix("torch."),
              **{name: value for name, value in extras.items() if name.endswith("token_id")}}
    forms = _official_forms(model, family)
    if forms:
        floats = [name for names in _modules(model.config, family, linear_names(model)).values() for name in names]
        values["quantization_config"] = written(forms).config(forms, floats)
    write_json(folder / CONFIG, values)
    beside = [] if tokenizer_from is None else tokenizer_files(tokenizer_from)
    if tokenizer_from is not None and extras:
        beside += code_files(tokenizer_from)
    for path in beside:
        with atomic_write(folder / path.name) as target, open(path, "rb") as source:
            shutil.copyfileobj(source, target)
    _write_weights(dict(stored_form(_official(model, family), forms)), folder, shard_bytes)


def _official_forms(model: Decoder, family: Family) -> dict[str, Form]:
    """Of the packed layers, by their official names."""
    return {name.removesuffix(".weight"): Form.of(layer) for entry, layer in _packed_entries(model, family)
            for name in entry.theirs}


def packed_matrices(model: Decoder) -> Iterator[tuple[Form, int, int]]:
    """Form, rows and columns of every official matrix that is packed."""
    for entry, layer in _packed_entries(model, family_for(model.config)):
        for own in entry.rows or (layer.out_features,):
            yield Form.of(layer), own, layer.in_features


def _extras(family: Family, folder: Path | None, layers: int) -> dict[str, Any]:
    """What an earlier config.json of the same family says. Of another number of layers its second name is set right
    (GLM-4 has two), and what is listed for every layer left out."""
    if folder is None:
        return {}
    try:
        config, values = read_config(folder)
    except CheckpointError:
        return {}
    if family_of(values) is not family:
        return {}
    own = ("dtype", "quantization_config", "quantization_bit")
    kept = {name: value for name, value in values.items() if name not in own}
    if layers != config.num_hidden_layers:
        kept |= dict.fromkeys(kept.keys() & {"num_hidden_layers", "num_layers"}, layers)
        kept = {name: value for name, value in kept.items()
                if not (isinstance(value, list) and len(value) == config.num_hidden_layers)}
    return kept


def _official(model: Decoder, family: Family) -> Iterator[tuple[str, Tensor]]:
    state = _state(model)
    if family.WRITES_TIED_HEAD and "head.weight" not in state:
        state["head.weight"] = state["embedding.weight"]
    for entry in family.entries(model.config):
        if entry.ours in state:
            for name, part in zip(entry.theirs, entry.parts(state[entry.ours]), strict=True):
                yield name, entry.to_official(part)


def _write_weights(tensors: dict[str, Tensor], folder: Path, shard_bytes: int) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    room = shard_bytes
    for name, tensor in tensors.items():
        if tensor.nbytes > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= tensor.nbytes
    if len(shards) == 1:
        write_tensors(folder / SINGLE, tensors, {"format": "pt"})
        (folder / INDEX).unlink(missing_ok=True)
        return
    files = {f"model-{number:05}-of-{len(shards):05}.safetensors": shard for number, shard in enumerate(shards, 1)}
    for file, shard in files.items():
        write_tensors(folder / file, shard, {"format": "pt"})
    write_json(folder / INDEX, {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
                                "weight_map": {name: file for file, shard in files.items() for name in shard}})
    (folder / SINGLE).unlink(missing_ok=True)
