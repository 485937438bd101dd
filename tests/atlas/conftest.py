"""One tiny atlas, written once for all tests of the room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headwater.artifacts import read_json, read_jsonl
from headwater.atlas.stage import AtlasSettings, run
from headwater.atlas.world import World, build_world


@dataclass
class Written:
    """A written atlas: its folder, the figures of the stage, the world and the pages' labels."""

    folder: Path
    figures: dict[str, float]
    world: World
    labels: list[dict[str, Any]]

    def page(self, label: dict[str, Any]) -> bytes:
        return (self.folder / "pages" / label["file"]).read_bytes()

    def of_kind(self, *kinds: str) -> list[dict[str, Any]]:
        return [label for label in self.labels if label["kind"] in kinds]

    def rows(self, name: str) -> list[dict[str, Any]]:
        return list(read_jsonl(self.folder / f"{name}.jsonl"))

    def truth(self) -> dict[str, Any]:
        return read_json(self.folder / "world.json")


@pytest.fixture(scope="session")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("atlas")
    figures = run(AtlasSettings(size="tiny"), folder)
    return Written(folder, figures, build_world("tiny", 0), list(read_jsonl(folder / "pages" / "labels.jsonl")))
