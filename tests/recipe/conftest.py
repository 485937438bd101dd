from pathlib import Path

import pytest

from headwater.cli.main import main
from tests.recipe.tiny_stages import STAGES, write_recipe


@pytest.fixture
def recipe(tmp_path) -> Path:
    return write_recipe(tmp_path / "recipes")


@pytest.fixture
def run(recipe, tmp_path):
    """Walk the tiny recipe into `tmp_path/run` with the given overrides; returns the exit code."""
    return lambda *overrides: main(["run", str(recipe), "--out", str(tmp_path / "run"), *overrides], stages=STAGES)
