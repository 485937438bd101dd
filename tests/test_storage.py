from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError, InputError
from headwater.storage import Store


@pytest.fixture(params=["folder", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(tmp_path / "store")
    return Store(request.getfixturevalue("bucket").replace("PREFIX", tmp_path.name))


def test_what_is_put_is_read_listed_and_removed(store: Store) -> None:
    assert store.names("a") == []
    store.put("a/2.txt", b"two")
    store.put("a/1.txt", b"one")
    store.put_json("a/x.json", {"河": 1})
    store.put("a/deep/3.txt", b"three")
    assert store.names("a") == ["a/1.txt", "a/2.txt", "a/x.json"]
    assert store.names("a", ".json") == ["a/x.json"]
    store.put("a/1.txt", b"one again")
    assert store.get("a/1.txt") == b"one again"
    assert store.get_json("a/x.json") == {"河": 1}
    with store.open("a/1.txt") as stream:
        stream.seek(4)
        assert stream.read() == b"again"
    store.remove_file("a/1.txt")
    assert store.names("a", ".txt") == ["a/2.txt"]
    store.remove("a")
    store.remove("never there")
    assert store.names("a") == store.names("a/deep") == []
    with pytest.raises(InputError, match="cannot be read"):
        store.get("a/2.txt")


def test_a_store_travels_to_another_process(store: Store) -> None:
    store.put("one", b"1")
    assert pickle.loads(pickle.dumps(store)).get("one") == b"1"


def test_a_store_that_is_none_is_told_without_its_keys() -> None:
    with pytest.raises(InputError, match="no object store that can be used") as caught:
        Store("s4://key:secret@bucket/x?y=secret").put("a", b"")
    assert "secret" not in str(caught.value)


def test_a_store_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nobody = Store("s3://key:secret@bucket/x?scheme=http&endpoint_override=127.0.0.1:9&region=a")
    with pytest.raises(HeadwaterError, match="cannot write") as caught:
        nobody.put("a", b"")
    assert "secret" not in str(caught.value)
