"""A model folder as one GGUF file: weights, tokenizer and chat template, for llama.cpp and what is built on it."""

from __future__ import annotations

from pathlib import Path

from headwater.errors import InputError
from headwater.folders import GGUF, model_folder, tokenizer_files
from headwater.generate.run_folder import find_model
from headwater.model.checkpoint import require_floats, require_sound
from headwater.model.convert import read_as_stored
from headwater.model.gguf.architectures import architecture_of
from headwater.model.gguf.numbers import Kind
from headwater.model.gguf.writing import write_gguf
from headwater.progress import print_result, say
from headwater.settings import Settings
from headwater.tokenizer.gguf_fields import gguf_fields


class GgufSettings(Settings):
    type: Kind = "F16"
    """Of the matrices. Q8_0 and Q4_0: blocks of 32 integers and a scale, 8.5 and 4.5 bits a weight; the head of a Q4_0
    file is Q6_K, as llama.cpp has it."""


def export(folder: Path, target: Path, settings: GgufSettings | None = None) -> dict[str, int]:
    """Write the model of `folder`, an adapter merged, to the file `target`; returns the bytes of tensors by type.

    The file appears whole or not at all. Raises `InputError` for a model or a tokenizer that llama.cpp cannot run, and
    for a target in use; `MissingExtraError` without the gguf package; `StorageError` on a full disk.
    """
    settings, target = settings or GgufSettings(), Path(target)
    if target.suffix != GGUF or target.exists():
        raise InputError("the target is there already" if target.exists() else "not a name of a GGUF file",
                         where=target, fix=f"give a new file NAME{GGUF}")
    source = find_model(folder)
    require_floats(source, "written as GGUF, which packs them its own way",
                   "give the folder of the float model that was packed; of a run that of the stage before, like "
                   "RUN/finetune")
    model = read_as_stored(source)
    architecture = architecture_of(model.config, source)
    require_sound(model, source)
    fields = None
    if tokenizer_files(source):
        fields = gguf_fields(source, model.config.vocab_size)
    else:
        say(f"{source} has no tokenizer: the file will take and give ids")
    if not target.parent.exists():
        say(f"note: {target.parent} is not there yet, and is made")
    sizes = write_gguf(model, target, settings.type, name=model_folder(source).resolve().name, tokenizer=fields)
    kinds = ", ".join(f"{size / 1e6:.1f} MB {kind}" for kind, size in sizes.items())
    print_result(f"{target}: {architecture.name}, {kinds}")
    return sizes
