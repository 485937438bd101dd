"""What the makers of open models published of them, by the model's name.

Each figure says how well it is founded: paper or repo (read there), secondary (read where others quote it), memory.
Under which shots and rules a figure was had is not told beside most of them; it is an orientation, not a target.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headwater.artifacts import read_json
from headwater.errors import InputError

Grade = Literal["paper", "repo", "secondary"]


@dataclass(frozen=True)
class Published:
    """A figure as it was published."""

    model: str
    value: float
    """A share, of 1."""
    grade: Grade
    source: str

    def as_json(self) -> dict[str, Any]:
        return {"model": self.model, "value": self.value, "grade": self.grade, "source": self.source}


_BAICHUAN_2, _LLAMA_2, _GLM_4 = "Baichuan 2 (2309.10305)", "LLaMA 2 (2307.09288)", "ChatGLM (2406.12793)"
_TABLE: tuple[tuple[str, tuple[str, ...], Grade, str, str], ...] = (
    ("Baichuan2-7B-Base", (), "paper", _BAICHUAN_2,
     "ceval 54.00 mmlu 54.16 cmmlu 57.07 gaokao_bench 47.47 agieval 42.73 bbh 41.56 gsm8k 24.49 humaneval 18.29"),
    ("Baichuan2-13B-Base", (), "paper", _BAICHUAN_2,
     "ceval 58.10 mmlu 59.17 cmmlu 61.97 gaokao_bench 54.33 agieval 48.17 bbh 48.78 gsm8k 52.77 humaneval 17.07"),
    ("Baichuan2-7B-Chat", (), "repo", "Baichuan2's README_EN, bf16; C-Eval: val",
     "ceval 54.35 mmlu 52.93 cmmlu 54.99"),
    ("Baichuan2-13B-Chat", (), "repo", "Baichuan2's README_EN, bf16; C-Eval: val",
     "ceval 56.74 mmlu 57.32 cmmlu 59.68"),
    ("Baichuan-13B", (), "repo", "Baichuan-13B's README", "ceval 52.4 mmlu 51.6 cmmlu 55.3"),
    ("ChatGLM-6B", (), "repo", "ChatGLM2-6B's README", "mmlu 40.63 bbh 18.73"),
    # The base model was never released: what people have under this name is the chat model made of it.
    ("ChatGLM2-6B (base)", ("chatglm2-6b-base", "chatglm2-6b"), "repo", "ChatGLM2-6B's README",
     "mmlu 47.86 ceval 51.7 gsm8k 32.4 bbh 33.68"),
    ("ChatGLM3-6B-Base", (), "repo", "ChatGLM3's README", "mmlu 61.4 ceval 69.0 gsm8k 72.3 bbh 66.1 cmmlu 67.5"),
    ("GLM-130B", (), "paper", "GLM-130B, FP16", "mmlu 44.75"),
    ("GLM-4-9B", (), "paper", _GLM_4, "mmlu 74.7 ceval 77.1 gsm8k 84.0 humaneval 70.1"),
    ("GLM-4-9B-Chat", (), "paper", _GLM_4, "ifeval 69.0 mmlu 72.4 ceval 75.6 gsm8k 79.6 humaneval 71.8"),
    ("LLaMA-7B", (), "secondary", _LLAMA_2, "mmlu 35.1 gsm8k 11.0"),
    ("LLaMA-13B", (), "secondary", _LLAMA_2, "mmlu 46.9 gsm8k 17.8"),
    ("LLaMA-65B", (), "secondary", _LLAMA_2, "mmlu 63.4 gsm8k 50.9"),
    ("Llama-2-7B", (), "secondary", _LLAMA_2, "mmlu 45.3 gsm8k 14.6"),
    ("Llama-2-13B", (), "secondary", _LLAMA_2, "mmlu 54.8 gsm8k 28.7"),
    ("Llama-2-34B", (), "secondary", _LLAMA_2, "mmlu 62.6 gsm8k 42.2"),
    ("Llama-2-70B", (), "secondary", _LLAMA_2, "mmlu 68.9 gsm8k 56.8"))


def normalised(name: str) -> str:
    """A model's name without its maker, its form and marks: "meta-llama/Llama-2-7b-hf" as "llama27b"."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9]", "", re.sub(r"[-_.](hf|fp16|bf16)$", "", last))


def published(names: Iterable[str]) -> dict[str, Published]:
    """Benchmark -> figure of the first of these names that is known; empty where none is."""
    figures = _figures()
    return next((figures[key] for name in names if (key := normalised(name)) in figures), {})


def names_of(folder: Path) -> tuple[str, ...]:
    """What a model folder may be known by: its own name, then the one that its config.json remembers."""
    names = [Path(folder).resolve().name]
    try:
        config = read_json(folder / "config.json")
        remembered = config.get("_name_or_path") if isinstance(config, dict) else None
    except InputError:
        remembered = None
    return (*names, remembered) if isinstance(remembered, str) and remembered else tuple(names)


def _figures() -> dict[str, dict[str, Published]]:
    held = {}
    for model, names, grade, source, text in _TABLE:
        words = text.split()
        figures = {benchmark: Published(model, round(float(value) / 100, 6), grade, source)
                   for benchmark, value in zip(words[::2], words[1::2], strict=True)}
        held.update({normalised(name): figures for name in names or (model,)})
    return held
