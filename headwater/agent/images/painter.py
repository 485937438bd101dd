"""A loaded CogView 3: draws one picture after the other, and can be stopped between two steps."""

from __future__ import annotations

import asyncio
import io
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field

from headwater.agent.images.checkpoint import Sizes, check, load
from headwater.agent.tool import ToolError
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import Seed, Settings

TOKENS = 224
"""Of a description: the length that CogView 3 was trained with; its pipeline cuts off the rest."""
_UNKNOWN = 0.5
"""Share of unknown characters from which on a description is in a script that the text encoder cannot read."""


class CogviewSettings(Settings):
    """What draws pictures, and how."""

    checkpoint: Path
    """A folder of CogView 3 (Plus) as diffusers saves it, with safetensors. Nothing is fetched."""
    width: Annotated[int, Field(gt=0)] | None = None
    """Pixels; null is what the checkpoint was made for."""
    height: Annotated[int, Field(gt=0)] | None = None
    """Pixels; null is what the checkpoint was made for."""
    steps: int = Field(default=50, ge=1, le=1000)
    """Of denoising: more take longer and are finer."""
    guidance: float = Field(default=7.0, ge=1, le=30)
    """How closely a picture keeps to its description; 1 takes half the time, without guidance."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""
    seconds: float = Field(default=50.0, gt=0)
    """For one picture, from its first step; then it is given up. A conversation's own budget for a call counts
    besides, with waiting and loading."""
    seed: Seed | None = None
    """The same description gives the same picture; null: another one each time."""
    free_text: bool = False
    """Whether a call is the description itself, as GLM-4 learned it; else JSON with the key `prompt`, which ChatGLM3
    and the other formats need."""


class Picture(NamedTuple):
    """What was drawn."""

    png: bytes
    width: int
    height: int
    seed: int
    """With the same settings it gives this picture again."""


class Painter:
    """A checkpoint in memory, for any number of conversations: loaded for the first picture, kept until `close`.

    A thread of its own draws, so that no event loop waits. Raises what `checkpoint.check` does, and `InputError` for a
    size that the checkpoint does not have and for a device that is not there.
    """

    def __init__(self, settings: CogviewSettings) -> None:
        self.settings = settings
        sizes = check(settings.checkpoint)
        self.width = _side("width", settings.width, sizes)
        self.height = _side("height", settings.height, sizes)
        self._device = _device(settings.device)
        self._pipeline: Any = None
        self._closed = threading.Event()
        self._one_at_a_time = ThreadPoolExecutor(1, "cogview")

    async def draw(self, prompt: str) -> Picture:
        """One picture; others wait. Cancelled, it ends with the step that is being computed.

        Raises `ToolError` for a description that is too long or not in English and for too slow a picture, and
        `InputError` where numbers overflow or the memory is too small.
        """
        stop = threading.Event()
        self._go_on(stop)
        try:
            return await asyncio.wrap_future(self._one_at_a_time.submit(self._draw, prompt, stop))
        finally:
            stop.set()

    def close(self) -> None:
        """Give up what is being drawn, and the memory. May be called twice."""
        self._closed.set()
        self._one_at_a_time.shutdown(wait=False)  # those that wait are told by `_go_on`, when their turn comes
        self._pipeline = None

    def _go_on(self, stop: threading.Event) -> None:
        if self._closed.is_set():
            raise ToolError("image generation has ended")
        if stop.is_set():
            raise _Stopped

    def _loaded(self, stop: threading.Event) -> Any:
        """The pipeline; it stays for the next one where nobody waits for this one any more."""
        self._go_on(stop)
        pipeline = self._pipeline
        if pipeline is None:
            say(f"loading {self.settings.checkpoint}")
            pipeline = load(self.settings.checkpoint, self._device, self._dtype)
            if not self._closed.is_set():
                self._pipeline = pipeline
            self._go_on(stop)
        return pipeline

    def _draw(self, prompt: str, stop: threading.Event) -> Picture:
        pipeline = self._loaded(stop)
        _check_prompt(prompt, pipeline.tokenizer)
        seed = secrets.randbelow(1 << 32) if self.settings.seed is None else self.settings.seed
        try:
            drawn = pipeline(prompt, width=self.width, height=self.height, num_inference_steps=self.settings.steps,
                             guidance_scale=self.settings.guidance, max_sequence_length=TOKENS,
                             # Noise of a CPU is the same on every device.
                             generator=torch.Generator("cpu").manual_seed(seed),
                             callback_on_step_end=_Between(partial(self._go_on, stop), self.settings))
        except torch.OutOfMemoryError as error:
            raise InputError(f"the {self._device} has too little memory for a picture: {error}",
                             where=self.settings.checkpoint, fix="lower width and height, or give dtype=bfloat16"
                             ) from None
        file = io.BytesIO()
        drawn.images[0].save(file, "PNG")
        return Picture(file.getvalue(), self.width, self.height, seed)

    @property
    def _dtype(self) -> torch.dtype:
        name = self.settings.dtype
        if name == "auto":
            name = "bfloat16" if self._device == "cuda" else "float32"
        return getattr(torch, name)


class _Stopped(Exception):
    """Nobody waits for the picture any more."""


class _Between:
    """What the pipeline calls after every step; it raises where there is no going on."""

    def __init__(self, go_on: Callable[[], None], settings: CogviewSettings) -> None:
        self._go_on, self._settings = go_on, settings
        self._begun = time.monotonic()

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._go_on()
        seconds, steps = self._settings.seconds, self._settings.steps
        if time.monotonic() - self._begun > seconds:
            raise ToolError(f"the picture took longer than {seconds:g} seconds and was given up after {step + 1} of "
                            f"{steps} steps", fix="tell the user that pictures take too long here")
        if not torch.isfinite(tensors["latents"]).all():
            raise InputError(f"the numbers are not finite after step {step + 1} of {steps}",
                             where=self._settings.checkpoint, fix="give dtype=bfloat16 or dtype=float32")
        return {}


def _side(name: str, asked: int | None, sizes: Sizes) -> int:
    side = asked or sizes.usual
    if side % sizes.step or side > sizes.largest:
        raise InputError(f"a {name} of {side} pixels, this checkpoint draws multiples of {sizes.step} up to "
                         f"{sizes.largest:,}", where=name, fix=f"give {name}={sizes.usual}, for which it was made")
    return side


def _device(name: str) -> str:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no GPU that PyTorch can use here", where="device", fix="give device=cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _check_prompt(prompt: str, tokenizer: Any) -> None:
    """The pipeline would cut off a long description and say so to a log alone. Raises `ToolError`."""
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    if len(encoded.input_ids) > TOKENS:
        raise ToolError(f"the description has {len(encoded.input_ids)} tokens, {TOKENS} are allowed", fix="shorten it")
    # Several unknown characters are one token, so characters are counted.
    unknown = sum(end - begin for one, (begin, end) in zip(encoded.input_ids, encoded.offset_mapping)
                  if one == tokenizer.unk_token_id)
    if unknown > _UNKNOWN * len(prompt):
        raise ToolError("the description cannot be read by the image model", fix="write it in English")
