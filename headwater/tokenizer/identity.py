"""Which tokenizer a folder or file holds: told by its files, else by `tokenizer_config.json`, else by `config.json`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from headwater.errors import InputError
from headwater.folders import (
    GGUF,
    ICE_TEXT,
    MERGES,
    RANKS,
    SENTENCEPIECE,
    TOKENIZER_CONFIG,
    TOKENIZER_JSON,
    VOCABULARIES,
    rank_files,
)
from headwater.tokenizer import byte_pairs, ranks
from headwater.tokenizer.chat import CHAT_MARKS, END, SPECIALS, ChatTemplate, HeadwaterTemplate, TextEncoder
from headwater.tokenizer.facts import BAICHUAN, CHATGLM, CLASSES, GLM4, JSON, RECORDED, Facts
from headwater.tokenizer.frame import Frame, frame_of
from headwater.tokenizer.gguf_file import read_gguf
from headwater.tokenizer.packed import Packed
from headwater.tokenizer.piece_model import CONTROL, USER_DEFINED, piece_kind, with_controls
from headwater.tokenizer.sentence_pieces import Rules, SentencePieces
from headwater.tokenizer.templates import (
    Baichuan2Template,
    BaichuanTemplate,
    ChatGLM2Template,
    ChatGLM3Template,
    ChatGLMTemplate,
    GLM4Template,
    Llama2Template,
)

PLAIN = ("<unk>", "<s>", "</s>", "<pad>")
"""Control pieces that every family has; the others are its `specials`."""
CHATGLM2_MARKS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
CHATGLM3_MARKS = (*CHATGLM2_MARKS, "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
"""What the official code counts on from the last piece, in id order."""
GLM4_CHAT = {"[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"}
BAICHUAN_ROLES = {"user_token_id": 195, "assistant_token_id": 196}
GPT2 = ("GPT2Tokenizer", "GPT2TokenizerFast", "gpt2", "llama", "headwater")
"""Classes and model types beside GPT-2's pair of files; the latter two are what our own models are written as."""
NO_TEMPLATE = "no chat format is known for this tokenizer"
KNOWN = ", ".join([*VOCABULARIES, f"NAME{RANKS}", *(f"{ids} with {merges}" for ids, merges in MERGES.items())])
"""What a folder is searched for; files of other names are opened when they are named themselves."""


class Codec(Protocol):
    """Text to ids and back, without special tokens."""

    @property
    def size(self) -> int: ...

    @property
    def table(self) -> list[bytes]: ...

    def piece(self, index: int) -> str: ...

    def encode_batch(self, texts: list[str], threads: int) -> list[list[int]]: ...

    def encode_packed(self, texts: list[str], threads: int) -> Packed: ...

    def opening_spaces(self, ids: list[int]) -> int: ...


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer is made of."""

    file: bytes
    """The content of the file of pieces; of both where they are two, and of a GGUF file what it says of pieces."""
    codec: Codec
    bos: int
    eos: int
    pad: int
    specials: dict[str, int]
    template: Callable[[TextEncoder], ChatTemplate] | str
    """The chat template, or why there is none."""
    frame: Callable[[], Frame] = field(default=partial(Frame, ()))
    """What goes around a text to be continued; read when it is asked for."""


def read_vocabulary(path: Path) -> Vocabulary:
    """The tokenizer of a folder, or of one file of it, which then alone decides about the pieces. Raises `InputError`
    where there is none, or none that we know."""
    if not path.exists():
        raise InputError("no such file or folder", where=path, fix="check the path")
    facts = Facts.of(path if path.is_dir() else path.parent)
    vocabulary = _open(facts) if path.is_dir() else _open_file(path, facts)
    frame = partial(frame_of, facts, vocabulary.specials, vocabulary.bos, vocabulary.eos)
    vocabulary = dataclasses.replace(vocabulary, frame=frame)
    declared = [size for key in ("vocab_size", "padded_vocab_size") if isinstance(size := facts.config.get(key), int)]
    needed = max((vocabulary.codec.size, *(index + 1 for index in vocabulary.specials.values())))
    if declared and needed > max(declared):
        raise InputError(f"the tokenizer has {needed} ids, the model's vocabulary {max(declared)}", where=path,
                         fix="put the tokenizer's files and config.json of the same model together")
    return vocabulary


def _open(facts: Facts) -> Vocabulary:
    present = {name: facts.folder / name for name in VOCABULARIES if (facts.folder / name).is_file()}
    if ICE_TEXT in present:
        return _chatglm(present[ICE_TEXT], facts)
    if SENTENCEPIECE in present:
        data = present[SENTENCEPIECE].read_bytes()
        ours = _ours(data, present[SENTENCEPIECE])
        if ours is not None:
            return ours
        name = facts.tokenizer.get("tokenizer_class")
        strange = name is not None and (not isinstance(name, str) or name not in CLASSES)
        family = JSON if strange and TOKENIZER_JSON in present else facts.family()
        if not (family == JSON and TOKENIZER_JSON in present):
            return _model_file(data, present[SENTENCEPIECE], family, facts)
    if TOKENIZER_JSON in present:  # tells everything itself, whatever its class is called
        return _json(present[TOKENIZER_JSON], facts)
    files = rank_files(facts.folder)
    if len(files) > 1:
        raise InputError(f"several files of ranks: {', '.join(path.name for path in files)}", where=facts.folder,
                         fix="name one of the files instead of the folder")
    if files:
        return _named_ranks(files[0])
    for ids in MERGES:
        if (facts.folder / ids).is_file():
            return _merges(facts.folder / ids, facts)
    raise InputError(f"no tokenizer here: none of {KNOWN}", where=facts.folder, fix="give a tokenizer or model folder")


def _open_file(path: Path, facts: Facts) -> Vocabulary:
    if path.name == ICE_TEXT:
        return _chatglm(path, facts)
    if path.suffix == ".model":
        ours = _ours(data := path.read_bytes(), path)
        if ours is not None:
            return ours
        family = facts.family()
        return _model_file(data, path, None if family == JSON else family, facts)
    if path.suffix == RANKS:
        return _named_ranks(path)
    if path.suffix == GGUF:
        found = read_gguf(path)
        return Vocabulary(found.content, found.codec, found.bos, found.eos, found.pad, found.specials, NO_TEMPLATE)
    for ids, merges in MERGES.items():
        if path.name in (ids, merges):
            return _merges(path.with_name(ids), facts)
    if path.suffix == ".json":
        return _json(path, facts)
    raise InputError("no tokenizer by its name", where=path, fix=f"known: {KNOWN}, NAME.model, NAME.json, NAME{GGUF}")


def _model_file(data: bytes, path: Path, family: str | None, facts: Facts) -> Vocabulary:
    """`tokenizer.model`: tiktoken's ranks are lines of text, a SentencePiece model is a protocol buffer."""
    lines = re.match(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n", data) is not None
    if lines and family in (None, GLM4, CHATGLM):
        return _glm4(data, path)
    if lines or family in (GLM4, JSON):
        found = "tiktoken ranks" if lines else "a SentencePiece model"
        raise InputError(f"{found}, but the configuration says {family}", where=path,
                         fix="put the tokenizer's files and the configuration of the same model together")
    if family == BAICHUAN:
        return _baichuan(data, path, facts)
    if family == CHATGLM:
        return _chatglm2(data, path, facts)
    return _llama(data, path, facts)


def _ours(data: bytes, path: Path) -> Vocabulary | None:
    """A model that this package trained, told by its control pieces."""
    if END.encode() not in data:
        return None
    codec = SentencePieces(data, Rules(exact=True), where=path)
    controls = codec.controls()
    if any(name not in controls for name in CHAT_MARKS):
        return None
    marks = {name: controls[name] for name in SPECIALS if name in controls}
    return _vocabulary(data, codec, marks, HeadwaterTemplate, path)


def _llama(data: bytes, path: Path, facts: Facts) -> Vocabulary:
    """LLaMA, LLaMA 2 and other models that are a SentencePiece model and nothing else."""
    codec, added = _with_added(data, path, facts.added())
    specials = {name: index for name, index in {**codec.controls(), **added}.items() if name not in PLAIN}
    return _vocabulary(data, codec, specials, _llama_template(facts), path)


def _with_added(data: bytes, path: Path, added: dict[str, int]) -> tuple[SentencePieces, dict[str, int]]:
    """The model, where special tokens that are pieces are taken out of text's reach."""
    codec = SentencePieces(data, Rules(), where=path)
    inside = {index for name, index in added.items() if index < codec.count and name not in PLAIN}
    return (SentencePieces(with_controls(data, inside), Rules(), where=path) if inside else codec), added


def _llama_template(facts: Facts) -> type[ChatTemplate] | str:
    """LLaMA 2's for its chat models, which the configuration alone does not tell from other models of that shape."""
    if facts.tokenizer.get(RECORDED) == Llama2Template.name:
        return Llama2Template
    if "[INST]" in facts.chat_template and "<<SYS>>" in facts.chat_template:
        return Llama2Template
    if not facts.chat_template and re.search(r"llama-?_?2.*chat", facts.names):
        return Llama2Template
    return (f"{NO_TEMPLATE}: nothing says that it is a LLaMA 2 chat model (to make it one, write "
            f'"{RECORDED}": "{Llama2Template.name}" into {TOKENIZER_CONFIG})')


def _baichuan(data: bytes, path: Path, facts: Facts) -> Vocabulary:
    """Baichuan 1 and 2, with the role ids of `generation_config.json`, else the official ones."""
    codec = SentencePieces(data, Rules(), where=path)
    ids = {role: facts.generation.get(role, usual) for role, usual in BAICHUAN_ROLES.items()}
    for role, index in ids.items():
        if not isinstance(index, int) or not 0 <= index < codec.count or piece_kind(data, index) not in (CONTROL,
                                                                                                         USER_DEFINED):
            return _vocabulary(data, codec, {}, f"{NO_TEMPLATE}: {role} {index!r} is not a reserved piece", path)
    first = _is_first_baichuan(codec, facts)
    codec = SentencePieces(with_controls(data, set(ids.values())), Rules(), where=path)
    template = partial(BaichuanTemplate if first else Baichuan2Template, user=ids["user_token_id"],
                       assistant=ids["assistant_token_id"])
    return _vocabulary(data, codec, {codec.piece(index): index for index in ids.values()}, template, path)


def _is_first_baichuan(codec: SentencePieces, facts: Facts) -> bool:
    """The first generation has no system messages; its pieces are normalised and get a dummy prefix."""
    if "baichuan2" in facts.names or "z_loss_weight" in facts.config or "tokenizer_class" in facts.config:
        return False
    return facts.tokenizer.get("tokenizer_class") == "BaiChuanTokenizer" or codec.dummy_prefix


def _chatglm2(data: bytes, path: Path, facts: Facts) -> Vocabulary:
    """ChatGLM2 and 3: special tokens follow the pieces, four more in the third generation; padding is <unk>."""
    codec = SentencePieces(data, Rules(), where=path)
    generation = _chatglm_generation(facts)
    marks = CHATGLM3_MARKS if generation == 3 else CHATGLM2_MARKS
    specials = {mark: codec.size + number for number, mark in enumerate(marks)}
    templates: dict[int | None, type[ChatTemplate] | str] = {
        2: ChatGLM2Template, 3: ChatGLM3Template,
        None: f"{NO_TEMPLATE}: nothing says whether it is ChatGLM2 or ChatGLM3; name_or_path in {TOKENIZER_CONFIG} can"}
    return _vocabulary(data, codec, specials, templates[generation], path)


def _chatglm_generation(facts: Facts) -> int | None:
    said = [*facts.added(), *facts.listed(), facts.chat_template]
    if "chatglm3" in facts.names or any("<|user|>" in text for text in said):
        return 3
    # ChatGLM2's own tokenizer_config.json carries the first generation's name.
    return 2 if re.search(r"chatglm2|codegeex2|chatglm-6b", facts.names) else None


def _chatglm(path: Path, facts: Facts) -> Vocabulary:
    """ChatGLM-6B: how many ids of image tokens come first is in either configuration."""
    data = path.read_bytes()
    plain = SentencePieces(data, Rules(whitespace_pieces=True), where=path)
    controls = plain.controls()
    if any(name not in controls for name in ("[gMASK]", "<sop>", "<eop>", "<pad>")):
        raise InputError("the model lacks the control pieces of ChatGLM-6B", where=path,
                         fix="take ice_text.model from a release of 2023-04 or later")
    images, bos = facts.tokenizer.get("num_image_tokens"), facts.config.get("bos_token_id")
    counts = {images} if isinstance(images, int) else set()
    if isinstance(bos, int):
        counts.add(bos - controls["<sop>"])
    if len(counts) != 1 or min(counts) < 0:
        raise InputError(f"the count of image tokens before the pieces is not clear: num_image_tokens {images!r}, "
                         f"bos_token_id {bos!r}, and <sop> is piece {controls['<sop>']}", where=path,
                         fix=f"give num_image_tokens in {TOKENIZER_CONFIG} (0, or 20000 for the first release)")
    codec = SentencePieces(data, Rules(whitespace_pieces=True, first_id=counts.pop()), where=path)
    ids = codec.controls()
    specials = {name: index for name, index in ids.items() if name not in PLAIN}
    return Vocabulary(data, codec, ids["<sop>"], ids["<eop>"], ids["<pad>"], specials, ChatGLMTemplate)


def _glm4(data: bytes, path: Path) -> Vocabulary:
    """It has no start token: a text follows [gMASK] <sop>, of which the latter stands for it."""
    found = ranks.read_ranks(data, where=path)
    encoding = ranks.glm4_encoding(len(found))
    encoding.check(found, path)
    specials = dict(encoding.specials)
    end = specials[ranks.END_OF_TEXT]
    return Vocabulary(data, byte_pairs.from_ranks(found, encoding), specials["<sop>"], end, end, specials, GLM4Template)


def _named_ranks(path: Path) -> Vocabulary:
    """Qwen's and OpenAI's; the mark between their texts stands at the start too, as there is no other."""
    encoding = ranks.named_encoding(path)
    found = ranks.read_ranks(data := path.read_bytes(), where=path)
    encoding.check(found, path)
    end = encoding.specials[ranks.END_OF_TEXT]
    return Vocabulary(data, byte_pairs.from_ranks(found, encoding), end, end, end, dict(encoding.specials), NO_TEMPLATE)


def _merges(path: Path, facts: Facts) -> Vocabulary:
    """GPT-2's pair of files; as nothing in them says how a text is cut, no other family's."""
    says = facts.tokenizer.get("tokenizer_class") or facts.config.get("model_type")
    if says not in (None, *GPT2):
        raise InputError(f"pieces and merges of {says!r}: how its texts are cut does not stand in them", where=path,
                         fix=f"give the model's {TOKENIZER_JSON}; of such pairs only GPT-2's are known")
    beside = path.with_name(MERGES[path.name])
    for file in (path, beside):
        if not file.is_file():
            raise InputError(f"{path.name} and {beside.name} belong together, and one is missing", where=file,
                             fix="copy both")
    ids, merges = path.read_bytes(), beside.read_bytes()
    codec, specials = byte_pairs.from_merges(ids, merges, where=path)
    end = specials.get(facts.named("eos_token") or ranks.END_OF_TEXT)
    if end is None:
        raise InputError("nothing says which token ends a text", where=path,
                         fix=f"give eos_token in {TOKENIZER_CONFIG}")
    bos, pad = (specials.get(facts.named(f"{role}_token") or "", end) for role in ("bos", "pad"))
    return Vocabulary(ids + merges, codec, bos, end, pad, specials, NO_TEMPLATE)


def _json(path: Path, facts: Facts) -> Vocabulary:
    roles = {role: facts.named(f"{role}_token") for role in ("bos", "eos", "pad", "unk")}
    named = {*filter(None, roles.values()), *facts.listed(), *facts.added(), *ranks.GLM4_SPECIALS}
    codec, found = byte_pairs.from_json(data := path.read_bytes(), named, where=path)
    ids = {role: _json_id(role, name, codec, facts) for role, name in roles.items()}
    eos = ids["eos"]
    if eos is None:
        raise InputError("nothing says which token ends a text", where=path.parent,
                         fix=f"give eos_token in {TOKENIZER_CONFIG} or eos_token_id in config.json")
    specials = {name: index for name, index in found.items() if name not in PLAIN}
    bos = ids["bos"] if ids["bos"] is not None else specials.get("<sop>", eos)
    template = GLM4Template if set(specials) >= GLM4_CHAT else _llama_template(facts)
    return Vocabulary(data, codec, bos, eos, ids["pad"] if ids["pad"] is not None else eos, specials, template)


def _json_id(role: str, name: str | None, codec: byte_pairs.BytePairs, facts: Facts) -> int | None:
    if name is not None:
        return codec.id_of(name)
    index = facts.config.get(f"{role}_token_id")
    index = index[0] if isinstance(index, list) and index else index
    return index if isinstance(index, int) and 0 <= index < codec.size else None


def _vocabulary(data: bytes, codec: SentencePieces, specials: dict[str, int],
                template: Callable[[TextEncoder], ChatTemplate] | str, path: Path) -> Vocabulary:
    """With the ids that a SentencePiece model names itself; padding is <unk> where it names none."""
    bos, eos, pad = codec.named("bos"), codec.named("eos"), codec.named("pad")
    if bos is None or eos is None:
        raise InputError("a SentencePiece model without start or end of text", where=path,
                         fix="give the tokenizer of a language model")
    unknown = codec.named("unk")
    return Vocabulary(data, codec, bos, eos, pad if pad is not None else unknown or 0, specials, template)
