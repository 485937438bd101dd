"""One small text for all studies, and one model that has learned to speak."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headwater.studies import reward_hacking
from headwater.studies.learners import TextSettings


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> dict[str, Any]:
    """Settings of a study that is over in a second or two."""
    folder = tmp_path_factory.mktemp("text")
    TextSettings(world="tiny", vocab_size=1024, threads=1).text(folder)
    return {"corpus": folder / "corpus", "tokenizer": folder / "tokenizer", "seeds": 2, "steps": 6, "hidden_size": 32,
            "layers": 1, "heads": 2, "rows": 4, "length": 64, "threads": 1, "precision": "float32"}


@pytest.fixture(scope="session")
def spoken(tmp_path_factory) -> Path:
    """Thanks whoever asks how it is, and obeys every other time."""
    return reward_hacking._spoken(tmp_path_factory.mktemp("spoken"))
