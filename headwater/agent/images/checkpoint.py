"""A folder of CogView 3 as diffusers saves it, looked at before anything of it is loaded.

What its files may name is fixed here: one pipeline of known parts, weights as safetensors. So nothing of a folder is
unpickled or run, and nothing is fetched, whatever the folder says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from headwater.artifacts import read_json
from headwater.errors import CheckpointError, InputError, MissingExtraError
from headwater.folders import CONFIG

INDEX = "model_index.json"
PIPELINE = "CogView3PlusPipeline"
PARTS = {
    "tokenizer": ("transformers", ("T5Tokenizer", "T5TokenizerFast")),
    "text_encoder": ("transformers", ("T5EncoderModel",)),
    "transformer": ("diffusers", ("CogView3PlusTransformer2DModel",)),
    "vae": ("diffusers", ("AutoencoderKL",)),
    "scheduler": ("diffusers", ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")),
}
"""What CogView 3 consists of: the library and its classes."""

_WITH_WEIGHTS = "text_encoder", "transformer", "vae"
_PICKLED = ".bin", ".pt", ".pth", ".ckpt", ".pkl"
_LIBRARIES = "diffusers", "transformers"
_NO_PIPELINE = "give the folder of a CogView 3 (Plus) checkpoint as diffusers saves it, with model_index.json"


@dataclass(frozen=True)
class Sizes:
    """Pixels that a checkpoint can draw."""

    usual: int
    """Width and height that it was made for."""
    largest: int
    """Its positions reach so far, in either direction."""
    step: int
    """Width and height are multiples of this."""


def check(folder: Path) -> Sizes:
    """That a folder is a CogView 3 that can be loaded, as far as its small files and names tell.

    Raises `MissingExtraError`, `InputError` for another pipeline and pickled weights, `CheckpointError` for a folder
    that lacks something.
    """
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise MissingExtraError(f"image generation needs {' and '.join(missing)}",
                                fix="pip install 'headwater[images]'")
    if not folder.is_dir():
        raise InputError("there is no such folder", where=folder, fix=_NO_PIPELINE)
    _check_parts(_read(folder / INDEX), folder)
    for name in _WITH_WEIGHTS:
        _check_weights(folder / name)
    return _sizes(_read(folder / "transformer" / CONFIG), _read(folder / "vae" / CONFIG), folder)


def load(folder: Path, device: str, dtype: torch.dtype) -> Any:
    """The pipeline, on its device. Raises `CheckpointError` for files that do not hold what they should."""
    import diffusers
    from diffusers.utils.logging import disable_progress_bar
    from transformers.utils.logging import disable_progress_bar as disable_transformers

    disable_progress_bar()
    disable_transformers()
    try:
        pipeline = diffusers.CogView3PlusPipeline.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    except Exception as error:  # of two libraries, about damaged files
        raise CheckpointError(f"the checkpoint cannot be loaded: {type(error).__name__}: {error}", where=folder,
                              fix="copy it again") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise CheckpointError("the file is missing", where=path, fix=_NO_PIPELINE)
    found = read_json(path)
    if not isinstance(found, Mapping):
        raise CheckpointError("expected a JSON object", where=path, fix="copy the checkpoint again")
    return found


def _check_parts(index: Mapping[str, Any], folder: Path) -> None:
    """A class that is not known here could be code of the folder's own."""
    if index.get("_class_name") != PIPELINE:
        raise InputError(f"a pipeline of the class {index.get('_class_name')!r}, CogView 3's is '{PIPELINE}'",
                         where=folder / INDEX, fix=_NO_PIPELINE)
    for name, (library, classes) in PARTS.items():
        if index.get(name) not in [[library, one] for one in classes]:
            raise InputError(f"its {name} is {index.get(name)!r}, CogView 3's is {library}'s {' or '.join(classes)}",
                             where=folder / INDEX, fix=_NO_PIPELINE)


def _check_weights(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError("the folder is missing", where=folder, fix="copy the checkpoint again")
    names = sorted(path.name for path in folder.iterdir())
    if any(name.endswith(".safetensors") for name in names):
        return
    if pickled := [name for name in names if name.endswith(_PICKLED)]:
        raise InputError(f"its weights are pickled ({pickled[0]}): such a file can run anything when it is opened",
                         where=folder, fix="get the checkpoint's safetensors")
    raise CheckpointError("there are no weights (*.safetensors)", where=folder, fix="copy the checkpoint again")


def _sizes(transformer: Mapping[str, Any], vae: Mapping[str, Any], folder: Path) -> Sizes:
    try:
        # The autoencoder halves the picture between its levels; the transformer reads patches of what is left.
        scale = 1 << len(vae["block_out_channels"]) - 1
        step = scale * transformer["patch_size"]
        return Sizes(transformer["sample_size"] * scale, transformer["pos_embed_max_size"] * step, step)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the sizes of transformer and vae are not told ({error})", where=folder,
                              fix="copy the checkpoint again") from None
