"""Training checkpoints: everything a resumed run needs to go on as if never stopped, without pickle."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from headwater.artifacts import atomic_folder, read_json, write_json
from headwater.errors import CheckpointError
from headwater.model import Decoder
from headwater.model.tensors import read_tensors, write_tensors


def save_state(folder: Path, step: int, model: Decoder, optimizer: torch.optim.Optimizer) -> None:
    """Write `step-N/` (weights, moments, step) as one folder that appears whole; then remove the older ones.

    Batches are a function of the step and nothing draws random numbers during training, so this is the whole state.
    """
    with atomic_folder(folder / f"step-{step:08d}") as staging:
        write_tensors(staging / "model.safetensors", _trained(model))
        write_tensors(staging / "optimizer.safetensors", _moments(model, optimizer))
        write_json(staging / "state.json", {"step": step})
    for older in _steps(folder)[:-1]:
        shutil.rmtree(older)


def load_state(folder: Path, model: Decoder, optimizer: torch.optim.Optimizer) -> int:
    """Restore the newest checkpoint below `folder`; returns the steps already done, 0 without one."""
    found = _steps(folder)
    if not found:
        return 0
    newest = found[-1]
    weights, moments = read_tensors(newest / "model.safetensors"), read_tensors(newest / "optimizer.safetensors")
    parameters = _trained(model)
    if weights.keys() != parameters.keys():
        raise CheckpointError("the training checkpoint is of another model", where=newest,
                              fix="delete the checkpoints folder to start this stage again")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            optimizer.state[parameter] = {key: moments[f"{key}:{name}"].to(parameter.device if key != "step" else "cpu")
                                          for key in ("step", "exp_avg", "exp_avg_sq")}
    return int(read_json(newest / "state.json")["step"])


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _trained(model: Decoder) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _moments(model: Decoder, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {f"{key}:{name}": tensor for name, parameter in _trained(model).items()
            for key, tensor in optimizer.state[parameter].items()}
