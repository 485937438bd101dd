from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.artifacts import hash_file
from headwater.atlas.stage import AtlasSettings, run
from headwater.errors import SettingsError


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hash_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_another_process_with_another_hash_seed_and_locale_writes_the_same_bytes(atlas, tmp_path):
    code = ("import sys, pathlib; from headwater.atlas.stage import AtlasSettings, run; "
            "run(AtlasSettings(size='tiny'), pathlib.Path(sys.argv[1]))")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env=environment)
    assert _hashes(tmp_path / "again") == _hashes(atlas.folder)


def test_a_run_over_a_half_written_folder_gives_the_same_bytes(atlas, tmp_path):
    (tmp_path / "pages" / "en").mkdir(parents=True)
    (tmp_path / "pages" / "en" / "000.html").write_text("left by a killed run")
    run(AtlasSettings(size="tiny"), tmp_path)
    assert _hashes(tmp_path) == _hashes(atlas.folder)


def test_another_seed_is_another_world_of_the_same_size(atlas, tmp_path):
    figures = run(AtlasSettings(size="tiny", seed=1), tmp_path)
    ours, theirs = _hashes(atlas.folder), _hashes(tmp_path)
    assert not {ours[name] for name in ours if name.endswith(".csv")} & set(theirs.values())
    assert figures["facts"] == atlas.figures["facts"]
    assert figures["pages"] == pytest.approx(atlas.figures["pages"], rel=0.05)


def test_figures_count_what_was_written(atlas):
    pages = [*(atlas.folder / "pages").rglob("*.html")]
    assert atlas.figures["pages"] == len(pages) == len(atlas.labels)
    assert atlas.figures["pages_near_copy"] == len(atlas.of_kind("near_copy"))
    assert atlas.figures["dialogues_train"] == len(atlas.rows("dialogues/train"))
    assert atlas.figures["facts"] == len(atlas.truth()["facts"])
    assert all(isinstance(value, float) for value in atlas.figures.values())


def test_an_unknown_size_is_refused():
    with pytest.raises(SettingsError, match="size"):
        AtlasSettings.parse({"size": "huge"})
