"""Byte-level vocabularies in GGUF files, read through llama.cpp's own package."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Regex, pre_tokenizers

from headwater.errors import InputError, MissingExtraError
from headwater.tokenizer.byte_pairs import BytePairs, cutting, from_pieces
from headwater.tokenizer.ranks import GPT2_SPLIT

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")
"""Letters of scripts that have capitals, as DeepSeek LLM's tokenizer.json lists them."""
_DEEPSEEK_SIGNS = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"
_DEEPSEEK_HAN = "\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff"


@dataclass(frozen=True)
class GgufVocabulary:
    """What a file says of its tokenizer."""

    content: bytes
    """The part of the file that tells ids apart: a file with weights holds gigabytes more."""
    codec: BytePairs
    specials: dict[str, int]
    bos: int
    eos: int
    pad: int


def read_gguf(path: Path) -> GgufVocabulary:
    """The vocabulary of a GGUF file. Raises `MissingExtraError` without the gguf package, and `InputError` for a
    damaged file, for pieces of another kind than byte-level ones, and for a way to cut texts that is not known.

    Falcon's has no piece for some control characters and for planes 8 to 11 of Unicode: they vanish, as they do in its
    official tokenizer.
    """
    fields = _fields(path)
    kind = fields.get("model")
    if kind != "gpt2":
        raise InputError(f"a GGUF vocabulary of the kind {kind!r}", where=path,
                         fix="known: gpt2 (byte-level pairs); give the model's tokenizer.model instead")
    pieces, kinds, pairs = (fields.get(name) for name in ("tokens", "token_type", "merges"))
    eos = fields.get("eos_token_id")
    if not (isinstance(pieces, list) and isinstance(kinds, list) and isinstance(pairs, list)
            and len(pieces) == len(kinds)) or not isinstance(eos, int) or not 0 <= eos < len(pieces):
        raise InputError("a GGUF file without tokens, their types, merges, and the id that ends a text", where=path,
                         fix="copy the file again")
    name = _name(fields, path)
    plain = {piece: at for at, piece in enumerate(pieces) if kinds[at] == _NORMAL}
    # Rows that only fill the embedding up are called [PAD123], and are of this type too.
    words = {piece: at for at, piece in enumerate(pieces)
             if kinds[at] == _USER_DEFINED and piece != f"[PAD{at}]" and piece not in plain}
    specials = {piece: at for at, piece in enumerate(pieces) if kinds[at] == _CONTROL}
    codec = from_pieces(plain, [_pair(line, path) for line in pairs], _CUTS[name](), size=len(pieces), words=words,
                        composed=name in _COMPOSED, where=path)
    content = json.dumps([name, pieces, kinds, pairs]).encode()
    return GgufVocabulary(content, codec, specials, fields.get("bos_token_id", eos), eos,
                          fields.get("padding_token_id", eos))


def _fields(path: Path) -> dict[str, Any]:
    """The tokenizer's fields without their prefix, and the architecture."""
    try:
        import gguf
    except ImportError as error:
        raise MissingExtraError(f"reading GGUF needs the package gguf ({error})",
                                fix="pip install 'headwater[gguf]'") from None
    prefix, architecture = "tokenizer.ggml.", "general.architecture"
    try:
        fields = gguf.GGUFReader(path).fields
        return {name.removeprefix(prefix): field.contents() for name, field in fields.items()
                if name.startswith(prefix) or name == architecture}
    except (ValueError, IndexError, KeyError, TypeError, OSError) as error:
        raise InputError(f"not a GGUF file, or a truncated one ({error})", where=path,
                         fix="copy the file again") from None


def _name(fields: dict[str, Any], path: Path) -> str:
    """Of the way to cut; GPT-NeoX's files are older than the field."""
    name = fields.get("pre")
    if name is None and fields.get("general.architecture") == "gptneox":
        return "gpt-neox"
    if name not in _CUTS:
        raise InputError(f"a GGUF vocabulary whose texts are cut as {name!r}", where=path,
                         fix=f"known: {', '.join(_CUTS)}; give the model's tokenizer.json instead")
    return str(name)


def _pair(line: str, path: Path) -> tuple[str, str]:
    parts = line.split(" ")
    if len(parts) != 2:
        raise InputError(f"the merge {line!r} is not two pieces", where=path, fix="copy the file again")
    return parts[0], parts[1]


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return cutting(GPT2_SPLIT)


def _falcon() -> pre_tokenizers.PreTokenizer:
    """Digits are looked for after bytes have become letters, so that some bytes (those of м) part as fractions do."""
    return pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), _gpt2(), pre_tokenizers.Digits(False),
                                    _isolated("[0-9][0-9][0-9]")])


def _deepseek() -> pre_tokenizers.PreTokenizer:
    steps = (r"[\r\n]", rf"\s?[{_DEEPSEEK_LETTERS}]+", rf"\s?[{_DEEPSEEK_SIGNS}]+", r"\s+$", f"[{_DEEPSEEK_HAN}]+")
    return pre_tokenizers.Sequence([*map(_isolated, steps), pre_tokenizers.Digits(True),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _isolated(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


_CUTS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": _gpt2, "gpt-neox": _gpt2, "mpt": _gpt2, "falcon": _falcon, "deepseek-llm": _deepseek}
"""By llama.cpp's names; the steps themselves are those of the models' tokenizer.json."""
_COMPOSED = ("gpt-neox", "mpt")
"""Whose texts are brought to Unicode's NFC first."""
