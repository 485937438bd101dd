import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InputError
from headwater.tokenizer.shards import read_shard, write_shard


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=20))
def test_documents_come_back_framed(trained, tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("shard") / "s"
    write_shard(((text, "en") for text in texts), trained, folder)
    shard = read_shard(folder)
    assert shard.documents == len(texts)
    for index, text in enumerate(texts):
        ids = shard.document(index).tolist()
        assert (ids[0], ids[-1]) == (trained.bos, trained.eos)
        assert trained.decode(ids) == text
        assert shard.utf8_bytes[index] == len(text.encode())
    assert len(shard.tokens) == np.diff(shard.offsets).sum()


def test_a_truncated_shard_is_refused(trained, tmp_path):
    write_shard([("some text", "en")], trained, tmp_path / "s")
    path = tmp_path / "s" / "tokens.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="empty or truncated"):
        read_shard(tmp_path / "s")
