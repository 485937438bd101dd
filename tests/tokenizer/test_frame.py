import json
import shutil
from pathlib import Path

import pytest

from headwater.errors import InputError
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.facts import Facts
from headwater.tokenizer.frame import Frame, frame_of

SHARED = Path(__file__).resolve().parents[3] / "shared"
START = {"SpecialToken": {"id": "<s>", "type_id": 0}}
TEXT = {"Sequence": {"id": "A", "type_id": 0}}


def template(*pieces: dict) -> dict:
    return {"type": "TemplateProcessing", "single": list(pieces), "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]}}}


def folder(tmp_path: Path, processor: object = None, **config: object) -> Facts:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"post_processor": processor}))
    return Facts(tmp_path, tokenizer=config)


@pytest.mark.parametrize(("processor", "before"), [
    (template(START, TEXT), (7,)), (template(TEXT, START), ()), (None, ()),
    ({"type": "ByteLevel"}, ()),
    ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, template(START, TEXT)]}, (7,)),
])
def test_a_json_tokenizers_own_template_says_what_stands_before_a_text(tmp_path, processor, before):
    assert frame_of(folder(tmp_path, processor), {}, bos=1, eos=2) == Frame(before)


def test_the_configuration_has_the_last_word(tmp_path):
    assert frame_of(folder(tmp_path, template(START, TEXT), add_bos_token=False), {}, bos=1, eos=2) == Frame(())
    assert frame_of(folder(tmp_path, None, add_bos_token=True), {}, bos=1, eos=2) == Frame((1,))


def test_a_damaged_template_is_refused(tmp_path):
    with pytest.raises(InputError, match="no template of special tokens"):
        frame_of(folder(tmp_path, {**template(START), "special_tokens": {}}), {}, bos=1, eos=2)


def test_a_family_without_a_start_token_of_its_own_puts_nothing_before(tmp_path):
    assert frame_of(Facts(tmp_path), {}, bos=5, eos=5) == Frame(())
    assert frame_of(Facts(tmp_path), {}, bos=1, eos=2) == Frame((1,))
    assert frame_of(Facts(tmp_path, tokenizer={"tokenizer_class": "BaichuanTokenizer"}), {}, bos=1, eos=2) == Frame(())


def test_glm_texts_stand_before_or_behind_their_long_blank(tmp_path):
    first = {"[gMASK]": 130001, "<sop>": 130004, "<eop>": 130005}
    assert frame_of(Facts(tmp_path), first, bos=130004, eos=130005) == Frame((), (130001, 130004))
    fourth = {"[gMASK]": 151331, "<sop>": 151333, "<eop>": 151334}
    assert frame_of(Facts(tmp_path), fourth, bos=151333, eos=151329) == Frame((151331, 151333))


@pytest.mark.skipif(not (SHARED / "tokenizers").is_dir(), reason="needs ../shared/tokenizers")
def test_official_files(tmp_path):
    assert Tokenizer.load(SHARED / "tokenizers/llama-32000").frame == Frame((1,))
    shutil.copy(SHARED / "tokenizers/chatglm2-3-64794/tokenizer.model", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ChatGLMTokenizer"}')
    assert Tokenizer.load(tmp_path).frame == Frame((64790, 64792))
    assert Tokenizer.load(SHARED / "tokenizers/gpt2-50257").frame == Frame(())


@pytest.mark.skipif(not (SHARED / "checkpoints").is_dir(), reason="needs ../shared/checkpoints")
def test_a_framed_text_has_the_ids_of_transformers():
    transformers = pytest.importorskip("transformers")
    path = SHARED / "checkpoints/stories260K-hf"
    tokenizer, theirs = Tokenizer.load(path), transformers.AutoTokenizer.from_pretrained(path)
    before, after = tokenizer.frame
    assert [*before, *tokenizer.encode("Once upon a time"), *after] == theirs.encode("Once upon a time")
