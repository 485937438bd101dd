"""A tiny tokenizer folder of every family, in the form of its official files."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as Library
from tokenizers.decoders import ByteLevel

from headwater.tokenizer import Tokenizer
from headwater.tokenizer.ranks import GLM4_SPECIALS

LINES = ["hello world, how long is the river?", "你好，世界！河有多长？问：答：公里。",
         "[INST] <<SYS>> be brief <</SYS>> [/INST]", "[Round 0] [Round 1] [gMASK] <sop> <|user|> 482 km ok yes",
         "0123456789 {}\"name\": sum :.-_<>|/"] * 8
MARKS = ("[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>")


def train(**options: Any) -> bytes:
    model = io.BytesIO()
    defaults = {"model_type": "bpe", "vocab_size": 440, "character_coverage": 1.0, "byte_fallback": True,
                "normalization_rule_name": "identity", "remove_extra_whitespaces": False, "hard_vocab_limit": False,
                "unk_id": 0, "bos_id": 1, "eos_id": 2, "minloglevel": 2, "num_threads": 1}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, **(defaults | options))
    return model.getvalue()


def ranks() -> bytes:
    words = ["he", "ll", "hell", "hello", " w", "or", " wor", "ld", " world", "us", "er", "\n\n", "xyz", "你"]
    tokens = [bytes([byte]) for byte in range(256)]
    for word in words:
        tokens += [word.encode()[:2], word.encode()] if word == "你" else [word.encode()]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def byte_level_json(specials: tuple[str, ...] = GLM4_SPECIALS) -> bytes:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(letters)}
    for piece in ("he", "ll", "hell", "hello"):
        vocab[piece] = len(vocab)
    library = Library(models.BPE(vocab, [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o")]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = ByteLevel()
    library.add_special_tokens([AddedToken(name, special=True) for name in specials])
    return library.to_str().encode()


def write(folder: Path, **files: bytes | dict[str, Any]) -> Path:
    """Files by their stem; a dictionary becomes JSON."""
    names = {"model": "tokenizer.model", "ice": "ice_text.model", "json": "tokenizer.json",
             "says": "tokenizer_config.json", "config": "config.json", "generation": "generation_config.json"}
    folder.mkdir(parents=True, exist_ok=True)
    for key, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / names[key]).write_bytes(data)
    return folder


def ice_text() -> bytes:
    blanks = [f"<|blank_{length}|>" for length in range(2, 81)]
    return train(model_type="unigram", normalization_rule_name="nmt_nfkc", remove_extra_whitespaces=True, pad_id=3,
                 vocab_size=600, user_defined_symbols=["<n>", "<|tab|>", *blanks], control_symbols=list(MARKS))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    llama = train(split_digits=True)
    roles = {"user_token_id": 4, "assistant_token_id": 5}
    return {
        "LLaMA 2": write(root / "llama2", model=llama, says={"tokenizer_class": "LlamaTokenizer", "chat_template":
                                                             "{% if system %}<<SYS>>{% endif %}[INST]"}),
        "Baichuan": write(root / "baichuan", says={"tokenizer_class": "BaiChuanTokenizer"}, generation=roles,
                          model=train(normalization_rule_name="nmt_nfkc", split_digits=True,
                                      user_defined_symbols=["<SEP>", "<reserved_102>", "<reserved_103>", "\n"])),
        "Baichuan 2": write(root / "baichuan2", says={"tokenizer_class": "BaichuanTokenizer"}, generation=roles,
                            model=train(add_dummy_prefix=False, split_digits=True,
                                        user_defined_symbols=["<SEP>", "<reserved_106>", "<reserved_107>", "\n"])),
        "ChatGLM-6B": write(root / "chatglm", ice=ice_text(), says={"tokenizer_class": "ChatGLMTokenizer",
                                                                    "num_image_tokens": 0}),
        "ChatGLM2": write(root / "two", model=llama, says={"tokenizer_class": "ChatGLMTokenizer",
                                                           "name_or_path": "THUDM/chatglm-6b"}),
        "ChatGLM3": write(root / "three", model=llama, says={"tokenizer_class": "ChatGLMTokenizer",
                                                             "name_or_path": "THUDM/chatglm3-6b"}),
        "GLM-4": write(root / "glm4", model=ranks(), says={"tokenizer_class": "ChatGLM4Tokenizer"}),
        "GLM-4 json": write(root / "glm4-hf", json=byte_level_json(), config={"model_type": "glm4"},
                            says={"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}),
    }


@pytest.fixture(scope="session")
def families(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {name: Tokenizer.load(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def chatglm3_real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("chatglm3-6b")
    (folder / "tokenizer.model").symlink_to(shared / "tokenizers" / "chatglm2-3-64794" / "tokenizer.model")
    return Tokenizer.load(write(folder, says={"tokenizer_class": "ChatGLMTokenizer"}))
