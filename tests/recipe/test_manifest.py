import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.artifacts import hash_file, write_json
from headwater.errors import InputError
from headwater.recipe.manifest import (
    Basis,
    FileRecord,
    basis_of,
    code_hash,
    files_below,
    hash_input,
    library_versions,
)
from tests.recipe.tiny_stages import STAGES, SourceSettings


@pytest.fixture
def folder(tmp_path):
    for name, text in {"a/x.txt": "one", "a/y.txt": "two", "z.txt": "three"}.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(text)
    return tmp_path / "data"


def content(folder) -> str:
    return hash_input(folder, None, where="here").sha256


def test_the_hash_follows_names_and_contents_alone(folder, tmp_path):
    before = content(folder)
    os.utime(folder / "z.txt", (1, 1))
    folder.rename(tmp_path / "moved")
    assert content(tmp_path / "moved") == before
    (tmp_path / "moved" / "z.txt").rename(tmp_path / "moved" / "w.txt")
    assert content(tmp_path / "moved") != before


@given(first=st.text(max_size=4), second=st.text(max_size=4))
def test_bytes_cannot_move_from_one_file_to_the_next_unseen(tmp_path_factory, first, second):
    def hashed(one: str, two: str) -> str:
        folder = tmp_path_factory.mktemp("pair")
        (folder / "1").write_text(one, encoding="utf-8")
        (folder / "2").write_text(two, encoding="utf-8")
        return content(folder)

    assert hashed(first, second) == hashed(first, second)
    assert (hashed(first, second) == hashed(first + "x", second)) is False
    if first + second:
        assert hashed(first + second, "") != hashed("", first + second)


def test_an_untouched_input_is_not_read_again(folder, monkeypatch):
    before = hash_input(folder, None, where="here")
    monkeypatch.setattr("headwater.recipe.manifest.hash_file", lambda path: pytest.fail("read again"))
    assert hash_input(folder, before, where="here") == before


def test_a_stages_records_are_no_part_of_its_content(folder):
    write_json(folder / "started.json", {"at": 1})
    before = content(folder)
    for name in ("manifest.json", "metrics.jsonl", "machine.json", "checkpoints/1.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("5")
    assert content(folder) == before
    assert set(files_below(folder, skip=set())) >= {"manifest.json", "checkpoints/1.bin"}


def test_a_users_own_metrics_file_is_content(folder):
    before = content(folder)
    (folder / "metrics.jsonl").write_text("5")
    assert content(folder) != before


def test_a_missing_input_is_the_users_mistake(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        hash_input(tmp_path / "nothing", None, where="stage.input")


def test_a_file_record_trusts_size_and_time_and_else_the_content(tmp_path):
    file = tmp_path / "f"
    file.write_text("abc")
    record = FileRecord.of(file, hash_file(file))
    os.utime(file, (1, 1))
    assert record.holds(file)
    file.write_text("abd")
    assert not record.holds(file)
    file.unlink()
    assert not record.holds(file)


def test_the_fingerprint_follows_content_and_settings_and_not_the_inputs_place(tmp_path):
    def fingerprint(name: str, text: str, repeat: int = 1) -> str:
        (tmp_path / name).write_text(text)
        settings = SourceSettings(text=tmp_path / name, repeat=repeat)
        inputs = {"text": hash_input(settings.text, None, where="x")}
        return basis_of(STAGES["source"], settings, inputs).fingerprint

    assert fingerprint("a", "same") == fingerprint("b", "same")
    assert fingerprint("a", "same") != fingerprint("a", "other")
    assert fingerprint("a", "same") != fingerprint("a", "same", repeat=2)


def test_the_code_of_a_room_is_part_of_the_basis():
    assert code_hash(("recipe",)) != code_hash(("cli",))
    assert code_hash(("recipe",)) == code_hash(("recipe",))


def test_a_library_that_is_not_installed_has_no_version():
    assert "no-such-library" not in library_versions(("no-such-library", "numpy"))
    assert "numpy" in library_versions(("no-such-library", "numpy"))


def test_what_changed_is_named_to_the_item_and_content_is_told_from_paths():
    def basis(path: str, content: str, steps: int) -> Basis:
        sources = [{"path": "sha256:1", "name": "a"}, {"path": content, "name": path}]
        return Basis(stage="s", settings={"sources": sources, "steps": steps}, midway={}, versions={}, code="c")

    before = basis("b", "sha256:2", 3)
    assert before.differences(basis("b", "sha256:3", 3)) == ["content of settings.sources.1.path"]
    assert before.differences(basis("c", "sha256:2", 4)) == ["settings.sources.1.name", "settings.steps"]
