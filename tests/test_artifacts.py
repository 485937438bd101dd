import errno
import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.artifacts import (
    atomic_folder,
    atomic_write,
    claim,
    hash_json,
    read_json,
    read_jsonl,
    storage_errors,
    sweep_temporaries,
    write_json,
    write_jsonl,
)
from headwater.errors import CheckpointError, InputError, StorageError

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@given(st.lists(JSON, max_size=4))
def test_json_and_json_lines_come_back_as_written(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("json")
    write_json(folder / "a.json", rows)
    write_jsonl(folder / "a.jsonl", rows)
    assert read_json(folder / "a.json") == rows
    assert list(read_jsonl(folder / "a.jsonl")) == rows


@given(st.dictionaries(st.text(max_size=3), st.integers(), min_size=2, max_size=5))
def test_the_hash_of_json_does_not_depend_on_the_order_of_keys(value):
    assert hash_json(value) == hash_json(dict(reversed(list(value.items()))))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "f").write_text("old")
    with suppress(RuntimeError), atomic_write(tmp_path / "f", "w") as stream:
        stream.write("new")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_a_written_file_has_the_usual_permissions(tmp_path):
    write_json(tmp_path / "f", 1)
    (tmp_path / "g").write_text("")
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "g").stat().st_mode


@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
def test_a_folder_appears_whole_in_the_place_of_what_was_there(tmp_path, before):
    if before == "file":
        (tmp_path / "x").write_text("old")
    elif before == "folder":
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "old").write_text("old")
    with atomic_folder(tmp_path / "x") as staging:
        (staging / "deep").mkdir()
        (staging / "deep" / "new").write_text("new")
        assert not (tmp_path / "x" / "deep").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("new")] == ["x/deep/new"]
    assert not list(tmp_path.rglob("old"))


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    (tmp_path / "x").mkdir()
    with suppress(KeyboardInterrupt), atomic_folder(tmp_path / "x") as staging:
        (staging / "new").write_text("")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == ["x"]


def test_a_killed_writer_leaves_only_what_the_sweep_removes(tmp_path):
    code = ("import os, sys; from pathlib import Path; from headwater.artifacts import atomic_folder, atomic_write\n"
            "with atomic_folder(Path(sys.argv[1]) / 'a' / 'x') as s, atomic_write(Path(sys.argv[1]) / 'f') as f:\n"
            "    f.write(b'half'); f.flush(); (s / 'half').write_text('half'); os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[1], check=False)
    assert len(list(tmp_path.rglob("*.tmp"))) == 2
    (tmp_path / "kept.tmp").write_text("a user's own file")
    sweep_temporaries(tmp_path, deep=False)
    assert len(list(tmp_path.rglob(".*.tmp"))) == 1
    sweep_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "kept.tmp"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_refuses_is_a_storage_error_with_the_path(tmp_path, number):
    with pytest.raises(StorageError, match="f: cannot write"), atomic_write(tmp_path / "f"):
        raise OSError(number, os.strerror(number))


def test_a_read_only_disk_is_the_users_to_change(tmp_path):
    with pytest.raises(InputError, match="read-only"), atomic_write(tmp_path / "f"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_other_system_errors_pass(tmp_path):
    with pytest.raises(PermissionError), storage_errors(tmp_path):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_damaged_json_is_an_input_error_with_the_path(tmp_path, content):
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(InputError, match=r"f\.json"):
        read_json(tmp_path / "f.json")
    with pytest.raises(InputError):
        read_json(tmp_path / "missing.json")
    with pytest.raises(InputError):
        read_json(tmp_path)


def test_a_damaged_row_is_named_by_its_line(tmp_path):
    (tmp_path / "f.jsonl").write_text(json.dumps(1) + "\n\n{\n")
    with pytest.raises(InputError, match="line 3"):
        list(read_jsonl(tmp_path / "f.jsonl"))


def test_errors_survive_the_way_between_processes():
    error = CheckpointError("truncated", where=Path("m"), fix="copy it again")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.exit_code) == (CheckpointError, str(error), 2)


def test_a_folder_is_claimed_for_one_thing_alone(tmp_path):
    claim(tmp_path / "a", {"size": 1, "quick": True}, "study")
    claim(tmp_path / "a", {"size": 1, "quick": True}, "study")
    with pytest.raises(InputError, match="another study, of other size"):
        claim(tmp_path / "a", {"size": 2, "quick": True}, "study")
    with pytest.raises(InputError, match="another study, of other quick"):
        claim(tmp_path / "a", {"size": 1}, "study")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "found.json").write_text("{}")
    with pytest.raises(InputError, match=r"there is a found\.json that is of no study"):
        claim(tmp_path / "b", {"size": 1}, "study", "found.json")
    assert not (tmp_path / "b" / "settings.json").exists()
