"""Ids, specials and text of every family's tokenizer."""

import json
import random
import unicodedata

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.tokenizer import Tokenizer

FAMILIES = ["LLaMA 2", "Baichuan", "Baichuan 2", "ChatGLM-6B", "ChatGLM2", "ChatGLM3", "GLM-4", "GLM-4 json"]
STRINGS = ["<s>", "</s>", "<unk>", "<pad>", "[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<sop>", "<eop>",
           "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|endoftext|>", "<reserved_102>",
           "<reserved_103>", "<reserved_106>", "<reserved_107>", "<|begin_of_image|>", "<ENC>", "<dBLOCK>",
           "<unused_0>", "<0x41>"]
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=12)
MIXED = st.lists(st.one_of(st.sampled_from(STRINGS), PLAIN), max_size=6).map("".join)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=80, deadline=None)
@given(text=MIXED)
def test_text_never_gives_a_special_id(families, family, text):
    tokenizer = families[family]
    assert not {tokenizer.bos, tokenizer.eos, *tokenizer.specials.values()} & set(tokenizer.encode(text))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", STRINGS)
def test_a_special_tokens_name_stays_text(families, family, text):
    tokenizer = families[family]
    ids = tokenizer.encode(text)
    assert not {tokenizer.bos, tokenizer.eos, *tokenizer.specials.values()} & set(ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("family", ["LLaMA 2", "Baichuan 2", "ChatGLM2", "ChatGLM3", "GLM-4", "GLM-4 json"])
@settings(max_examples=80, deadline=None)
@given(text=MIXED)
def test_text_comes_back_where_the_family_does_not_normalise(families, family, text):
    assert families[family].decode(families[family].encode(text)) == text


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(MIXED, max_size=3))
def test_a_batch_is_encoded_as_its_texts_are(families, family, texts):
    tokenizer = families[family]
    alone = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts) == alone
    assert tokenizer.encode_batch(texts, threads=2) == alone


def test_baichuan_normalises(families):
    assert families["Baichuan"].decode(families["Baichuan"].encode("ＡＢ １２")) == "AB 12"
    assert families["Baichuan 2"].decode(families["Baichuan 2"].encode("ＡＢ １２")) == "ＡＢ １２"


@pytest.mark.parametrize("family", ["LLaMA 2", "Baichuan", "Baichuan 2", "ChatGLM2", "ChatGLM-6B"])
def test_a_text_is_decoded_as_the_library_decodes_it(folders, families, family):
    pieces = sentencepiece.SentencePieceProcessor()
    pieces.Load(str(next(folders[family].glob("*.model"))))
    space, byte_space, word = (pieces.PieceToId(piece) for piece in ("▁", "<0x20>", "▁b"))
    for ids in ([space, space, word, space], [space, word], [word, word], [byte_space, word], [space, byte_space]):
        assert families[family].decode(ids) == pieces.Decode(ids)
    draw = random.Random(0)
    kept = [i for i in range(pieces.GetPieceSize()) if not (pieces.IsByte(i) or pieces.IsControl(i)
            or pieces.IsUnknown(i) or pieces.IdToPiece(i).startswith("<"))]
    for _ in range(300):
        ids = draw.choices(kept, k=draw.randint(1, 6))
        assert families[family].decode(ids) == pieces.Decode(ids)


def test_bytes_of_ids_join_to_the_bytes_of_all(families):
    for tokenizer in families.values():
        ids = [tokenizer.bos, *tokenizer.encode("hello 你好 👍"), tokenizer.eos, tokenizer.vocab_size + 7]
        data = b"".join(tokenizer.decode_bytes([index]) for index in ids)
        assert data == tokenizer.decode_bytes(ids)
        assert data.decode().strip() == "hello 你好 👍"


def test_special_ids_follow_the_official_layout(families):
    pieces = families["LLaMA 2"].vocab_size
    assert families["LLaMA 2"].specials == {}
    assert families["ChatGLM2"].specials == {"[MASK]": pieces, "[gMASK]": pieces + 1, "[sMASK]": pieces + 2,
                                             "sop": pieces + 3, "eop": pieces + 4}
    three = families["ChatGLM3"]
    assert [three.specials[f"<|{role}|>"] - pieces for role in ("system", "user", "assistant", "observation")] == [
        5, 6, 7, 8]
    assert (three.vocab_size, three.bos, three.eos, three.pad) == (pieces + 9, 1, 2, 0)
    first = families["ChatGLM-6B"]
    assert (first.bos, first.eos, first.pad) == (first.specials["<sop>"], first.specials["<eop>"], 3)
    assert families["Baichuan 2"].specials == {"<reserved_106>": 4, "<reserved_107>": 5}


def test_glm4s_special_ids_follow_its_ranks(families, folders):
    four = families["GLM-4"]
    ranks = (folders["GLM-4"] / "tokenizer.model").read_bytes().count(b"\n")
    # 151,329 ranks in the real file: <|endoftext|> 151329, [gMASK] 151331, <sop> 151333, <|user|> 151336.
    assert [four.specials[name] - ranks for name in ("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>",
                                                     "<|observation|>")] == [0, 2, 4, 7, 8, 9]
    assert (four.eos, four.pad, four.vocab_size) == (ranks, ranks, ranks + 14)


def test_ranks_join_lowest_first_and_take_a_whole_word_as_it_is(families):
    four = families["GLM-4"]
    assert [four.piece(index) for index in four.encode("hello hellish")] == ["hello", "Ġ", "hell", "i", "s", "h"]
    assert [four.piece(index) for index in four.encode("xyz")] == ["xyz"]  # no two ranks join into it
    assert [four.piece(index) for index in four.encode("axyz")] == ["a", "x", "y", "z"]
    assert [four.piece(index) for index in four.encode("1234")] == ["1", "2", "3", "4"]


def test_chatglm_6b_spells_white_space_as_pieces_of_their_own(families):
    tokenizer = families["ChatGLM-6B"]
    text = "ok\n" + " " * 3 + "km\the" + " " * 163 + "ow"
    pieces = [tokenizer.piece(index) for index in tokenizer.encode(text)]
    assert [piece for piece in pieces if piece.startswith("<")] == [
        "<n>", "<|blank_3|>", "<|tab|>", "<|blank_80|>", "<|blank_80|>", "<|blank_3|>"]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("  ok")[1:]) == "  ok"  # white space at the start is the text's own
    assert tokenizer.decode(tokenizer.encode(" a ")) == "a"  # single spaces at the ends are dropped


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from("abhelo 你好，\n\t 0189"), max_size=40))
def test_chatglm_6b_gives_text_back_up_to_its_ends_and_nfkc(families, text):
    tokenizer = families["ChatGLM-6B"]
    assert tokenizer.decode(tokenizer.encode(text)).strip(" ") == unicodedata.normalize("NFKC", text).strip(" ")


def test_chatglm_6bs_first_release_has_image_tokens_first(folders, tmp_path):
    model = (folders["ChatGLM-6B"] / "ice_text.model").read_bytes()
    (tmp_path / "ice_text.model").write_bytes(model)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"num_image_tokens": 20000}))
    old, new = Tokenizer.load(tmp_path), Tokenizer.load(folders["ChatGLM-6B"])
    assert old.encode("hello 你好") == [20000 + index for index in new.encode("hello 你好")]
    assert (old.bos, old.pad, old.vocab_size) == (20000 + new.bos, 20000 + new.pad, 20000 + new.vocab_size)
    assert old.decode([5, *old.encode("hello 你好")]) == "hello 你好"


def test_added_special_tokens_are_out_of_texts_reach(folders, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes((folders["Baichuan"] / "tokenizer.model").read_bytes())
    added = {"3": {"content": "<SEP>", "special": True}, "9000": {"content": "[PAD]", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer",
                                                                "added_tokens_decoder": added}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.specials == {"<SEP>": 3, "[PAD]": 9000}
    assert tokenizer.vocab_size == 9001
    assert 3 not in tokenizer.encode("<SEP>[PAD]")
    assert tokenizer.decode(tokenizer.encode("<SEP>[PAD]")) == "<SEP>[PAD]"


def test_an_added_word_is_text_and_a_special_one_is_not(tmp_path, folders):
    values = json.loads((folders["GLM-4 json"] / "tokenizer.json").read_text())
    last = values["added_tokens"][-1]
    values["added_tokens"].append({**last, "id": last["id"] + 1, "content": "<word>", "special": False})
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    tokenizer = Tokenizer.load(tmp_path)
    assert len(tokenizer.encode("<word>")) == 1
    assert tokenizer.decode(tokenizer.encode("a<word><|user|>")) == "a<word><|user|>"
    assert tokenizer.specials["<|user|>"] not in tokenizer.encode("a<word><|user|>")
