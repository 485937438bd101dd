"""What a GGUF file says of a tokenizer, and llama.cpp's ids of the same texts where it is installed."""

import base64
import json
import shutil

import pytest
import sentencepiece

from headwater.errors import InputError
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.fitting import _dense, _rendered
from headwater.tokenizer.gguf_fields import gguf_fields

TEXTS = ["Hello, world! It's 2024, isn't it?", "  two leading and   three spaces ", "", " ", "\n\n\n", "\tx\r\ny",
         "维尔纳河全长482公里,发源于塔罗山。", "中英混排 text 混合,标点“引号”……(括号)", "全角，。！？；：ＡＢＣ１２３",
         "😀 emoji 👨‍👩‍👧 𝔘nicode ﬁ é", "日本語とカタカナ 한국어 Русский العربية",
         "    def f(x):\n        return x + 12345\n",
         "DON'T we'LL I'm", "1 12 123 1234 3.14159 ½ ²", "<s></s> <|user|> [gMASK] <0x41>", "�￿"]
PUBLIC = {"llama": ("llama-32000", {}), "mistral": ("mistral-32000", {}), "internlm2": ("internlm2-92544", {}),
          "chinese-llama": ("chinese-llama-49953", {}),
          "chatglm2": ("chatglm2-3-64794", {"tokenizer_class": "ChatGLMTokenizer", "name_or_path": "chatglm2-6b"}),
          "chatglm3": ("chatglm2-3-64794", {"tokenizer_class": "ChatGLMTokenizer", "name_or_path": "chatglm3-6b"}),
          "qwen": ("qwen-151643", {}), "gpt2": ("gpt2-50257", {}), "cl100k": ("cl100k-100256", {})}


@pytest.fixture
def put(shared, tmp_path):
    """A folder with a public tokenizer and what its tokenizer_config.json says."""
    def place(name):
        folder, said = PUBLIC[name]
        shutil.copytree(shared / "tokenizers" / folder, tmp_path / name)
        (tmp_path / name / "tokenizer_config.json").write_text(json.dumps(said))
        return tmp_path / name
    return place


def short(fields):
    """By names without their prefix."""
    return {name.removeprefix("tokenizer.ggml."): value for name, value in fields.items()}


def test_our_own_pieces_keep_their_ids_scores_and_kinds(trained, small_model):
    fields = short(gguf_fields(small_model, 512))
    pieces = sentencepiece.SentencePieceProcessor(model_proto=trained.to_bytes())
    count = pieces.GetPieceSize()
    assert fields["tokens"][:count] == [pieces.IdToPiece(index) for index in range(count)]
    assert fields["scores"][:count] == [pieces.GetScore(index) for index in range(count)]
    kinds = fields["token_type"]
    assert len(fields["tokens"]) == len(fields["scores"]) == len(kinds) == 512
    assert fields["tokens"][count:] == [f"[PAD{index}]" for index in range(count, 512)]
    assert set(kinds[count:]) <= {5}
    assert {index for index, kind in enumerate(kinds) if kind == 3} == {
        index for index in range(count) if pieces.IsControl(index)}
    assert {index for index, kind in enumerate(kinds) if kind == 6} == {
        index for index in range(count) if pieces.IsByte(index)}
    assert (fields["model"], fields["pre"], fields["add_space_prefix"]) == ("llama", "default", False)


def test_what_ends_a_turn_and_opens_a_text_is_told(trained, small_model):
    fields = short(gguf_fields(small_model, 512))
    assert [fields[f"{role}_token_id"] for role in ("bos", "eos", "padding", "eot")] == [
        trained.bos, trained.eos, trained.pad, trained.specials["<|end|>"]]
    assert (fields["add_bos_token"], fields["add_eos_token"]) == (True, False)
    assert "{{ bos_token }}" in fields["tokenizer.chat_template"]


def test_marks_of_chatglm3_stand_behind_its_pieces_and_a_text_begins_with_none(put):
    fields = short(gguf_fields(put("chatglm3"), 65024))
    at = fields["tokens"].index
    assert at("[gMASK]") == 64790
    assert (fields["eot_token_id"], fields["eom_token_id"]) == (at("<|user|>"), at("<|observation|>"))
    assert {fields["token_type"][at(mark)] for mark in ("[gMASK]", "sop", "<|user|>")} == {3}
    assert not fields["add_bos_token"]
    assert len(fields["tokens"]) == 65024


def test_a_piece_that_spells_a_mark_is_refused(folders):
    with pytest.raises(InputError, match="1 of the tokens spelled as another"):
        gguf_fields(folders["ChatGLM3"], 500)


def test_byte_level_pieces_have_their_merges_and_the_name_of_their_cuts(put):
    fields = short(gguf_fields(put("gpt2"), 50257))
    assert (fields["model"], fields["pre"]) == ("gpt2", "gpt-2")
    assert fields["merges"][:2] == ["Ġ t", "Ġ a"]
    assert fields["tokens"][50256] == "<|endoftext|>"
    assert fields["token_type"][50256] == 3
    assert "scores" not in fields


def test_a_byte_level_vocabulary_is_read_back_from_its_file(folders, tmp_path):
    folder = folders["GLM-4 json"]
    tokenizer = Tokenizer.load(folder)
    again = Tokenizer.load(write_vocabulary(tmp_path / "v.gguf", gguf_fields(folder, tokenizer.vocab_size)))
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert (again.eos, again.specials) == (tokenizer.eos, tokenizer.specials)


def test_a_folder_says_itself_whether_a_text_is_opened(small_model, tmp_path):
    shutil.copytree(small_model, tmp_path / "m")
    (tmp_path / "m" / "tokenizer_config.json").write_text('{"add_bos_token": false, "chat_template": "{{ messages }}"}')
    fields = short(gguf_fields(tmp_path / "m", 512))
    assert not fields["add_bos_token"]
    assert fields["tokenizer.chat_template"] == "{{ messages }}"


def train(folder, **options):
    folder.mkdir()
    (folder / "text").write_text("the river is long and the lake is deep\n" * 50)
    sentencepiece.SentencePieceTrainer.train(input=str(folder / "text"), model_prefix=str(folder / "tokenizer"),
                                             vocab_size=300 if "byte_fallback" in options else 60, minloglevel=2,
                                             hard_vocab_limit=False, **options)
    return folder


@pytest.mark.parametrize(("options", "reason"), [
    ({"model_type": "unigram", "byte_fallback": True}, "unigram"),
    ({"model_type": "bpe"}, "bytes that stand for rare characters")])
def test_pieces_of_another_kind_are_refused(tmp_path, options, reason):
    train(tmp_path / "m", **options)
    with pytest.raises(InputError, match=reason):
        gguf_fields(tmp_path / "m", 300)


def test_a_normalising_tokenizer_is_told(tmp_path, capsys):
    train(tmp_path / "m", model_type="bpe", byte_fallback=True)  # nmt_nfkc, extra spaces removed
    gguf_fields(tmp_path / "m", 300)
    assert "rewrites texts before it cuts them" in capsys.readouterr().err


def test_an_unknown_way_to_cut_is_refused(tmp_path):
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Library(models.BPE({letter: at for at, letter in enumerate(letters)}, []))
    library.pre_tokenizer, library.decoder = pre_tokenizers.Whitespace(), decoders.ByteLevel()
    library.add_special_tokens(["<end>"])
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    with pytest.raises(InputError, match="no name for how this tokenizer cuts"):
        gguf_fields(tmp_path, 257)


def write_vocabulary(path, fields):
    """A file without weights."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in {"llama.vocab_size": len(fields["tokenizer.ggml.tokens"]), **fields}.items():
        kind = gguf.GGUFValueType.UINT32 if type(value) is int else gguf.GGUFValueType.get_type(value)
        writer.add_key_value(name, value, kind)
    for name in ("block_count", "context_length", "embedding_length", "attention.head_count"):
        writer.add_uint32(f"llama.{name}", 8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def open_there(path, fields):
    """llama.cpp's vocabulary of the fields."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    return llama_cpp.Llama(str(write_vocabulary(path, fields)), vocab_only=True, verbose=False)


def ids_there(model, text):
    return model.tokenize(text.encode(), add_bos=False, special=False)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in ("qwen", "cl100k") else name
                                  for name in PUBLIC if name != "chatglm2"])
def test_llama_cpp_gives_the_ids_that_we_give(put, shared, tmp_path, name):
    folder = put(name)
    tokenizer = Tokenizer.load(folder)
    there = open_there(tmp_path / "v.gguf", gguf_fields(folder, tokenizer.vocab_size + 3))
    golden = json.loads((shared / "tokenizers" / "golden_ids.json").read_text())["strings"]
    for text in TEXTS + golden:
        assert ids_there(there, text) == tokenizer.encode(text), text


def test_llama_cpp_cuts_the_texts_of_glm4_as_we_do(tmp_path):
    """On ranks that are few: every byte, the letters' pairs, three digits."""
    joined = [b"th", b"he", b"the", b" t", b" the", b"12", b"123", "中".encode()[:2], "中".encode(), b"\n\n", b"'s"]
    ranks = [*(bytes([byte]) for byte in range(256)), *joined]
    (tmp_path / "tokenizer.model").write_text("".join(
        f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks)))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ChatGLM4Tokenizer"}')
    fields, tokenizer = gguf_fields(tmp_path, 300), Tokenizer.load(tmp_path)
    there = open_there(tmp_path / "v.gguf", fields)
    for text in [*TEXTS, "the 1234 中中 then's 12\n\n\n the"]:
        assert ids_there(there, text) == tokenizer.encode(text), text
    assert there.tokenize(b"[gMASK]<sop>the", add_bos=True, special=True) == [
        *(tokenizer.specials[mark] for mark in ("[gMASK]", "<sop>")), 258]


TALK = [{"role": "user", "content": "hello, how long is the river?"}, {"role": "assistant", "content": "482 公里。"},
        {"role": "user", "content": "你好,世界"}]
TALKS = [TALK[:1], TALK, [*TALK, {"role": "assistant", "content": "ok"}]]
FORMATS = ["LLaMA 2", "Baichuan", "Baichuan 2", "ChatGLM2", "ChatGLM3", "GLM-4", "GLM-4 json"]


def written(tokenizer, template, talk):
    return _rendered(template, talk, tokenizer, add_generation_prompt=talk[-1]["role"] == "user")


@pytest.mark.parametrize("name", FORMATS)
def test_the_template_as_text_writes_what_the_ids_say(families, name):
    tokenizer = families[name]
    system = [] if name in ("Baichuan", "ChatGLM2") else [{"role": "system", "content": "be brief"}]
    for talk in [*TALKS, *([*system, *talk] for talk in TALKS)]:
        ids = tokenizer.chat.render(talk, add_generation_prompt=talk[-1]["role"] == "user").ids
        assert _dense(written(tokenizer, tokenizer.chat.jinja, talk)) == _dense(tokenizer.spell(ids))


@pytest.mark.parametrize("name", FORMATS)
def test_llama_cpp_reads_a_prompt_as_we_do(folders, request, tmp_path, name):
    if name in ("ChatGLM2", "ChatGLM3"):  # the small ones have pieces that spell a mark
        folder = request.getfixturevalue("put")(name.lower())
    else:
        folder = folders[name]
    tokenizer = Tokenizer.load(folder)
    there = open_there(tmp_path / "v.gguf", gguf_fields(folder, tokenizer.vocab_size))
    for talk in TALKS[:2]:
        text = written(tokenizer, tokenizer.chat.jinja, talk)
        ids = tokenizer.chat.render(talk, add_generation_prompt=True).ids
        assert there.tokenize(text.encode(), add_bos=False, special=True) == ids


def test_llama_cpp_reads_our_own_texts_and_chats_as_we_do(trained, small_model, tmp_path):
    there = open_there(tmp_path / "v.gguf", gguf_fields(small_model, 512))
    for text in TEXTS:
        assert ids_there(there, text) == trained.encode(text), text
    prompt = written(trained, there.metadata["tokenizer.chat_template"], TALK)
    assert there.tokenize(prompt.encode(), add_bos=False, special=True) == \
        trained.chat.render(TALK, add_generation_prompt=True).ids
