"""One small text for all studies."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.studies.learners import TextSettings


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> dict[str, Any]:
    """Settings of a study that is over in a second or two."""
    folder = tmp_path_factory.mktemp("text")
    TextSettings(world="tiny", vocab_size=1024, threads=1).text(folder)
    return {"corpus": folder / "corpus", "tokenizer": folder / "tokenizer", "seeds": 2, "steps": 6, "hidden_size": 32,
            "layers": 1, "heads": 2, "rows": 4, "length": 64, "threads": 1, "precision": "float32"}
