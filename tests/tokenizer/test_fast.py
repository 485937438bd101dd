"""Many texts at once give the ids that each gives alone, through whichever library."""

import json
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.tokenizer import Tokenizer
from headwater.tokenizer.byte_pairs import from_ranks
from headwater.tokenizer.fast import MANY, fast_bytes
from headwater.tokenizer.piece_model import Piece, read_pieces, with_pieces
from headwater.tokenizer.ranks import CL100K_SPLIT, GPT2_SPLIT, O200K_SPLIT, QWEN_SPLIT, Encoding
from headwater.tokenizer.sentence_pieces import Rules, SentencePieces

SPLITS = {"gpt2": GPT2_SPLIT, "cl100k": CL100K_SPLIT, "qwen": QWEN_SPLIT, "o200k": O200K_SPLIT}
TEXT = st.lists(st.one_of(st.text(max_size=5), st.sampled_from(
    ["hello", " WORLDs", "'s", "'LL", "'ſ", "\r\n", "\n", "    ", "\u3000", "1234", "٣٤", "中文", "e\u0301", "ǅ",
     "👩‍👩‍👧", "<|endoftext|>", "<|user|>", "</s>", "▁", "\0", "\U00018d8c", "\u1ae0"])), max_size=8).map("".join)


@pytest.fixture(scope="module", autouse=True)
def _gigatoken():
    pytest.importorskip("gigatoken", reason="gigatoken is not installed; nothing is quicker then")


@pytest.fixture(scope="module")
def codecs(families):
    words = [b"he", b"ll", b"hell", b"hello", b"'s", b"'l", b" W", b"12", b"123", b"\r\n", b"  ", b"    ", b"\xe4\xb8"]
    tokens = [*(bytes([byte]) for byte in range(256)), *words]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    cut = {name: from_ranks(ranks, Encoding(split, {}, len(ranks), composed=name == "qwen"))
           for name, split in SPLITS.items()}
    return {**cut, **{name: families[name]._codec for name in ("LLaMA 2", "Baichuan 2", "GLM-4", "GLM-4 json")}}


@pytest.mark.parametrize("name", [*SPLITS, "LLaMA 2", "Baichuan 2", "GLM-4", "GLM-4 json"])
@settings(max_examples=100)
@given(texts=st.lists(TEXT, max_size=4))
@example(["\U00018d8c's", "a\0b▁", "e\u0301", ""])
def test_many_texts_give_the_ids_of_each_alone(codecs, name, texts):
    codec = codecs[name]
    assert codec._fast is not None
    assert [row.tolist() for row in codec.encode_packed(texts, 1).rows()] == codec.encode_batch(texts, 1)


def test_a_long_batch_takes_the_quick_way_and_gives_the_same(families):
    text = "hello world, 你好 1234\r\n  <|user|> it's "
    for tokenizer in (families["GLM-4"], families["GLM-4 json"], families["LLaMA 2"]):
        texts = [text * 20] * (MANY // len(text * 20) + 1)
        assert tokenizer.encode_batch(texts) == tokenizer.encode_batch(texts, threads=2) == [
            tokenizer.encode(texts[0])] * len(texts)


def test_characters_newer_than_the_tables_go_the_slow_way(codecs):
    for letter in "\ufdd0\U000e0fff":  # never assigned
        assert not codecs["cl100k"]._fast.takes(f"a{letter}")
    assert codecs["cl100k"]._fast.takes("a 中文 👩‍👩‍👧 \ue000")


def test_a_library_of_other_ids_is_not_used(codecs):
    spelled = codecs["cl100k"]._tokenizer.to_str()
    assert fast_bytes(spelled, (), lambda texts: codecs["cl100k"].encode_batch(texts, 1)) is not None
    assert fast_bytes(spelled, (), lambda texts: codecs["qwen"].encode_batch(texts, 1)) is None
    assert fast_bytes(spelled.replace("{1,3}", "{1,2}"), (), lambda texts: []) is None


def test_a_stop_while_gigatoken_loads_is_not_swallowed(monkeypatch):
    class Stopped(SystemExit):
        pass

    class Stopping:
        def find_spec(self, name, path=None, target=None):
            if name == "awkward":
                raise Stopped

    monkeypatch.delitem(sys.modules, "awkward", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Stopping(), *sys.meta_path])
    with pytest.raises(Stopped):
        fast_bytes("{}", [], lambda texts: [[] for _ in texts])


def test_without_gigatoken_ids_stay_the_same(folders, families, monkeypatch):
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    for name in ("LLaMA 2", "GLM-4"):
        plain = Tokenizer.load(folders[name])
        assert plain._codec._fast is None
        packed, quick = (tokenizer.encode_packed(["hello 你好 it's"]) for tokenizer in (plain, families[name]))
        assert packed.ids.tolist() == quick.ids.tolist()


@pytest.mark.parametrize(("name", "file"), [
    ("Qwen", "qwen-151643/qwen.tiktoken"), ("GPT-2", "gpt2-50257"), ("InternLM2", "internlm2-92544"),
    ("Chinese-LLaMA", "chinese-llama-49953")])
def test_real_vocabularies_give_the_recorded_ids(shared, name, file):
    golden = json.loads((shared / "tokenizers" / "golden_ids.json").read_text())
    tokenizer = Tokenizer.load(shared / "tokenizers" / file)
    packed = tokenizer.encode_packed([*golden["strings"], "a\0b"])
    assert [row.tolist() for row in packed.rows()] == [*golden["ids"][name], tokenizer.encode("a\0b")]
    assert (tokenizer._codec._fast is None) == (name == "Chinese-LLaMA")  # gigatoken joins other pieces there


@pytest.mark.parametrize(("added", "quick"), [
    (["he", "河水"], True), (["river", "rise"], False), (["℃，"], False)])
def test_pieces_that_leave_open_what_comes_first_are_left_to_their_library(trained, added, quick):
    """Equal scores of pieces with a letter in common, and a piece whose halves are none, are told by no sample."""
    known = {piece.text for piece in read_pieces(trained.to_bytes())}
    parts = [text[:cut] for text in added if quick or len(text) > 2 for cut in range(1, len(text))]
    new = [Piece(text, -9000.0 - rank, 1) for rank, text in enumerate(dict.fromkeys([*parts, *added]))
           if text not in known]
    tied = [piece._replace(score=-9999.0) if piece.text in added else piece for piece in new]
    codec = SentencePieces(with_pieces(trained.to_bytes(), tied), Rules())
    assert (codec._fast is not None) == quick
