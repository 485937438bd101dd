"""Adapters beside one model, none merged with it, of which every request may use its own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from headwater.errors import InputError
from headwater.folders import is_adapter
from headwater.generate.run_folder import find_model
from headwater.model.adapters import choice_of, context_of, kind_of, load_adapter, tell_owner
from headwater.model.cache import KVCache
from headwater.model.decoder import Decoder
from headwater.model.extension import ContextSettings, KeptContext
from headwater.model.lora import Chosen
from headwater.model.prefix import KIND as PREFIX
from headwater.model.prefix import Prefix, load_prefix


class Adapters:
    """By name: low-rank matrices inside the model's layers, which a pass adds for the rows that use them, and prefixes,
    which the cache holds before such rows. A row without a name has the model as it is."""

    def __init__(self, model: Decoder, folders: Mapping[str, Path], *, beside: Path | None = None,
                 context: ContextSettings | None = None) -> None:
        """Put the adapters of these folders (or the last of a run) into the model. beside: the model's own folder.
        context: the longer one that it was given. Raises `InputError`, `CheckpointError` for one of another model."""
        if folders and (model.prefix is not None or choice_of(model) is not None):
            raise InputError("adapters by name beside a model with an adapter of its own in use", where=beside,
                             fix="give the model that all were trained beside, and this one by name too")
        self._prefixes: dict[str, Prefix] = {}
        self._inside: dict[str, str] = {}  # names inside the layers, where not every text can be one
        self.names = list(folders)
        for name, folder in folders.items():
            found = _adapter(name, folder, context)
            self._load(model, name, found)
            if beside is not None:
                tell_owner(found, beside)
        self._choice = choice_of(model) if folders else None
        if self._choice is not None:
            self._choice.now = Chosen()

    def _load(self, model: Decoder, name: str, folder: Path) -> None:
        if kind_of(folder) == PREFIX:
            self._prefixes[name] = load_prefix(folder, model.config).to(model.device, model.dtype)
        else:
            self._inside[name] = str(len(self._inside))
            load_adapter(model, folder, self._inside[name])

    @property
    def front(self) -> int:
        """Keys of the longest prefix."""
        return max((prefix.length for prefix in self._prefixes.values()), default=0)

    def begin(self, cache: KVCache, first: int, names: Sequence[str | None]) -> None:
        """Put their prefixes before rows of a cache, from row `first` on."""
        if self._prefixes:
            for row, name in enumerate(names, first):
                cache.begin(range(row, row + 1), None if name is None else self._prefixes.get(name))

    def chosen(self, names: Sequence[str | None], device: torch.device) -> Chosen:
        """By the rows of a batch: the low-rank matrices that somebody uses, and who."""
        used = [name for name in self._inside if name in names]
        if not used:
            return Chosen()
        uses = torch.tensor([[own == name for name in used] for own in names], device=device)
        return Chosen(tuple(self._inside[name] for name in used), uses)

    def using(self, chosen: Chosen) -> AbstractContextManager[None]:
        """For passes of such a batch."""
        return contextlib.nullcontext() if self._choice is None else self._choice.using(chosen)


def _adapter(name: str, folder: Path, context: ContextSettings | None) -> Path:
    """The folder of an adapter that reads as far as the model. Raises `InputError`."""
    fix = "give the folder of one that was tuned with method=lora or prefix"
    try:
        found = find_model(folder)
    except InputError as error:  # "no model here", "several models"
        raise InputError(f"adapter {name}: {error.what.replace('model', 'adapter')}", where=error.where, fix=fix
                         ) from None
    if not is_adapter(found):
        raise InputError(f"adapter {name}: a model, and not an adapter", where=found,
                         fix=f"serve it by itself, or {fix}")
    own = context_of(found)
    if own != KeptContext() and (context is None or own.model_dump() != context.model_dump()):
        raise InputError(f"adapter {name} was trained with a longer context than the model's", where=found,
                         fix="serve its folder by itself, or give the model the context.* of its context.json")
    return found
