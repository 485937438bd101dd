"""Which tokenizer a folder holds, and folders that hold none."""

import json

import pytest

from headwater.errors import InputError
from headwater.folders import tokenizer_files
from headwater.tokenizer import Tokenizer


@pytest.fixture
def put(folders, tmp_path):
    """A family's file of pieces in a new folder, with other words about it."""
    def place(family, says=None, config=None, name="folder"):
        folder = tmp_path / name
        folder.mkdir()
        for path in folders[family].iterdir():
            if not path.name.endswith("config.json"):
                (folder / path.name).write_bytes(path.read_bytes())
        for file, values in (("tokenizer_config.json", says), ("config.json", config)):
            if values is not None:
                (folder / file).write_text(json.dumps(values))
        return folder
    return place


@pytest.mark.parametrize(("family", "config", "template"), [
    ("LLaMA 2", {"model_type": "llama", "_name_or_path": "meta-llama/Llama-2-7b-chat-hf"}, "LLaMA 2"),
    ("LLaMA 2", {"model_type": "chatglm", "_name_or_path": "THUDM/chatglm2-6b"}, "ChatGLM2"),
    ("LLaMA 2", {"model_type": "chatglm", "_name_or_path": "THUDM/chatglm3-6b-32k"}, "ChatGLM3"),
    ("ChatGLM-6B", {"model_type": "chatglm"}, "not clear"),
    ("GLM-4", {"model_type": "chatglm", "padded_vocab_size": 151552}, "GLM-4"),
    ("GLM-4", None, "GLM-4"),
    ("GLM-4 json", {"model_type": "glm", "eos_token_id": [260, 267, 269]}, "GLM-4")])
def test_config_json_tells_where_the_tokenizers_own_is_missing(put, family, config, template):
    folder = put(family, config=config)
    if template == "not clear":
        with pytest.raises(InputError, match="count of image tokens before the pieces is not clear"):
            Tokenizer.load(folder)
    else:
        assert Tokenizer.load(folder).chat.name == template


def test_chatglm_6bs_offset_is_told_by_the_models_bos(put, families):
    bos = families["ChatGLM-6B"].bos
    assert Tokenizer.load(put("ChatGLM-6B", config={"bos_token_id": bos + 20000})).bos == bos + 20000
    with pytest.raises(InputError, match="not clear"):
        Tokenizer.load(put("ChatGLM-6B", {"num_image_tokens": 0}, {"bos_token_id": bos + 20000}, name="both"))


@pytest.mark.parametrize(("family", "template"), [("Baichuan", "Baichuan"), ("Baichuan 2", "Baichuan 2")])
def test_a_baichuans_generation_is_told_by_its_normaliser(put, folders, family, template):
    folder = put(family, {"tokenizer_class": "BaichuanTokenizer"})
    (folder / "generation_config.json").write_bytes((folders[family] / "generation_config.json").read_bytes())
    assert Tokenizer.load(folder).chat.name == template


@pytest.mark.parametrize(("says", "config", "words"), [
    (None, None, "nothing says that it is a LLaMA 2 chat model"),
    (None, {"model_type": "llama"}, "nothing says that it is a LLaMA 2 chat model"),
    ({"tokenizer_class": "LlamaTokenizer", "chat_template": "<|im_start|>"}, None, "nothing says that it is a LLaMA 2"),
    ({"tokenizer_class": "ChatGLMTokenizer"}, None, "whether it is ChatGLM2 or ChatGLM3"),
    ({"tokenizer_class": "BaichuanTokenizer"}, None, "user_token_id 195 is not a reserved piece")])
def test_without_a_known_template_only_chat_is_refused(put, says, config, words):
    tokenizer = Tokenizer.load(put("LLaMA 2", says, config))
    assert tokenizer.decode(tokenizer.encode("hello 你好")) == "hello 你好"
    assert tokenizer.eos in tokenizer.stop_ids
    with pytest.raises(InputError, match=words):
        _ = tokenizer.chat


@pytest.mark.parametrize(("family", "says", "config", "words"), [
    ("LLaMA 2", {"tokenizer_class": "XverseTokenizer"}, None, r"'XverseTokenizer'(.|\n)*supported: LlamaTokenizer"),
    ("LLaMA 2", None, {"model_type": "bloom"}, r"model_type 'bloom'(.|\n)*supported: llama"),
    ("LLaMA 2", {"tokenizer_class": "ChatGLM4Tokenizer"}, None, "a SentencePiece model, but(.|\n)*GLM-4"),
    ("GLM-4", {"tokenizer_class": "LlamaTokenizer"}, None, "tiktoken ranks, but the configuration says LLaMA"),
    ("LLaMA 2", {}, {"model_type": "llama", "vocab_size": 300}, "the model's vocabulary 300"),
    ("GLM-4", {}, {"model_type": "chatglm", "padded_vocab_size": 272}, "the model's vocabulary 272"),
    ("GLM-4 json", {}, None, "nothing says which token ends a text"),
    ("LLaMA 2", [], None, "holds a list, not an object"),
    ("LLaMA 2", {"tokenizer_class": ["LlamaTokenizer"]}, None, r"tokenizer_class \['LlamaTokenizer'\]"),
    ("ChatGLM-6B", {"num_image_tokens": [0]}, None, r"num_image_tokens \[0\]"),
    ("GLM-4 json", {"eos_token": 3, "additional_special_tokens": 3}, None, "nothing says which token ends a text"),
    ("LLaMA 2", {"added_tokens_decoder": [1]}, None, "not a table of ids and tokens")])
def test_folders_that_do_not_fit_are_refused(put, family, says, config, words):
    with pytest.raises(InputError, match=words):
        Tokenizer.load(put(family, says, config))


@pytest.mark.parametrize("family", ["LLaMA 2", "Baichuan 2", "ChatGLM-6B", "GLM-4", "GLM-4 json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_a_truncated_file_is_refused(folders, tmp_path, family, share):
    for path in folders[family].iterdir():
        data = path.read_bytes()
        cut = path.suffix == ".model" or path.name == "tokenizer.json"
        (tmp_path / path.name).write_bytes(data[: int(len(data) * share)] if cut else data)
    with pytest.raises(InputError):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(("text", "words"), [
    ("{", "not valid JSON"), ("[1]", "not a tokenizer"), ('{"model": {"vocab": 3}}', "not a tokenizer"),
    ('{"model": {"type": "Unigram", "vocab": {}}}', "a tokenizer of type 'Unigram'"),
    ('{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 0}]}', "added_tokens that are not"),
    ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}}', "tokenizers library cannot read it"),
    ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}', "a decoder of"),
    ('{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}, "added_tokens": '
     '[{"id": 2, "content": "ab", "special": true, "single_word": false, "lstrip": false, "rstrip": false, '
     '"normalized": false}]}', "text could produce the special tokens ab"),
    ('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": [{"id": 9, "content": "<x>", '
     '"special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}]}',
     "has id 9, its place gives it 1")])
def test_json_that_is_no_tokenizer_is_refused(tmp_path, text, words):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(InputError, match=words):
        Tokenizer.load(tmp_path)


@pytest.fixture
def both(folders, put):
    """A SentencePiece model and a `tokenizer.json` of other pieces, of which the folder means the latter."""
    folder = put("GLM-4 json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})
    (folder / "tokenizer.model").write_bytes((folders["LLaMA 2"] / "tokenizer.model").read_bytes())
    return folder


def test_one_file_of_a_folder_alone_holds_the_pieces(folders, both):
    for name, file in (("LLaMA 2", "tokenizer.model"), ("GLM-4 json", "tokenizer.json")):
        assert Tokenizer.load(both / file).encode("hello world") == Tokenizer.load(folders[name]).encode(
            "hello world")


def test_the_files_beside_one_file_tell_the_rest(folders):
    assert Tokenizer.load(folders["ChatGLM3"] / "tokenizer.model").chat.name == "ChatGLM3"
    assert Tokenizer.load(folders["ChatGLM-6B"] / "ice_text.model").chat.name == "ChatGLM-6B"


def test_a_path_that_holds_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        Tokenizer.load(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"no tokenizer by its name(.|\n)*known: tokenizer\.model"):
        Tokenizer.load(tmp_path / "notes.txt")


def test_damaged_ranks_are_refused(folders, tmp_path):
    lines = (folders["GLM-4"] / "tokenizer.model").read_bytes().splitlines(keepends=True)
    for name, kept, words in (("gap", lines[:50] + lines[51:], "have gaps"),
                              ("short", lines[:200], "lack single bytes"),
                              ("word", [*lines[:9], b"!! 9\n", *lines[10:]], "line 10 is not a base64 token")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.model").write_bytes(b"".join(kept))
        with pytest.raises(InputError, match=words):
            Tokenizer.load(tmp_path / name)


def test_a_folder_without_a_tokenizer_says_so(tmp_path):
    with pytest.raises(InputError, match=r"none of tokenizer\.model, ice_text\.model, tokenizer\.json, NAME\.tiktoken"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("family", ["Baichuan 2", "ChatGLM-6B", "ChatGLM3", "GLM-4", "GLM-4 json"])
def test_the_files_of_a_tokenizer_are_all_it_needs(folders, families, tmp_path, family):
    for path in tokenizer_files(folders[family]):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text((folders[family] / "config.json").read_text()
                                          if (folders[family] / "config.json").exists() else "{}")
    copied = Tokenizer.load(tmp_path)
    assert copied.specials == families[family].specials
    assert copied.chat.name == families[family].chat.name


def test_code_beside_a_tokenizer_does_not_belong_to_it(put):
    folder = put("LLaMA 2", {})
    (folder / "tokenization_x.py").write_text("raise SystemExit")
    assert [path.name for path in tokenizer_files(folder)] == ["tokenizer.model", "tokenizer_config.json"]
    assert tokenizer_files(folder.parent) == []


def test_one_files_tokenizer_is_copied_with_what_belongs_to_it(folders, both, tmp_path):
    assert [path.name for path in tokenizer_files(both / "tokenizer.json")] == ["tokenizer.json",
                                                                                "tokenizer_config.json"]
    (tmp_path / "other.model").write_bytes((folders["LLaMA 2"] / "tokenizer.model").read_bytes())
    with pytest.raises(InputError, match="would not be found"):
        tokenizer_files(tmp_path / "other.model")
