"""tiktoken's files: a token and its rank per line. How a text is cut, and which ids are special, their names tell."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import InputError
from headwater.folders import RANKS

END_OF_TEXT = "<|endoftext|>"
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How GPT-2 cuts a text before merging (its encoder.py); that of r50k_base and p50k_base."""
CL100K_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
"""That of cl100k_base (tiktoken's openai_public.py) and of GLM-4 (its tokenization_chatglm.py)."""
QWEN_SPLIT = CL100K_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
"""Every digit alone (Qwen's tokenization_qwen.py)."""
_MARKS = r"\p{Lm}\p{Lo}\p{M}"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_SPLIT = (rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_MARKS}]*[\p{{Ll}}{_MARKS}]+{_ENDING}"
               rf"|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_MARKS}]+[\p{{Ll}}{_MARKS}]*{_ENDING}"
               r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
"""Words end where small letters give way to capitals (tiktoken's openai_public.py)."""
GLM4_SPECIALS = (END_OF_TEXT, "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
                 "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>",
                 "<|end_of_video|>")
"""In id order, from the first id after the ranks."""
_QWEN_SPECIALS = (END_OF_TEXT, "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205)))


@dataclass(frozen=True)
class Encoding:
    """What a file of ranks does not say."""

    split: str
    specials: Mapping[str, int]
    past: int
    """The first id after the ranks. Those of specials before it have no rank; those after the ranks may leave gaps,
    which are ids that no text gives."""
    composed: bool = False
    """Whether a text is brought to Unicode's NFC first."""

    @property
    def size(self) -> int:
        return max([self.past, *(index + 1 for index in self.specials.values())])

    def check(self, ranks: Mapping[bytes, int], where: object) -> None:
        """Raises `InputError` where these are not all the ranks."""
        wanted = set(range(self.past)) - set(self.specials.values())
        found = set(ranks.values())
        if len(ranks) != len(found) or found != wanted or any(bytes([byte]) not in ranks for byte in range(256)):
            raise InputError(f"the {len(ranks)} ranks have gaps, are not the {len(wanted)} that belong here, or lack "
                             "single bytes: a truncated, damaged or renamed file", where=where,
                             fix="copy the file again")


_GPT2 = Encoding(GPT2_SPLIT, {END_OF_TEXT: 50256}, 50256)
ENCODINGS = {
    "gpt2": _GPT2,
    "r50k_base": _GPT2,
    "p50k_base": Encoding(GPT2_SPLIT, {END_OF_TEXT: 50256}, 50281),
    "cl100k_base": Encoding(CL100K_SPLIT, {END_OF_TEXT: 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259,
                                           "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276}, 100256),
    "o200k_base": Encoding(O200K_SPLIT, {END_OF_TEXT: 199999, "<|endofprompt|>": 200018}, 199998),
    "qwen": Encoding(QWEN_SPLIT, {name: 151643 + at for at, name in enumerate(_QWEN_SPECIALS)}, 151643, composed=True),
}
"""By the name of the file (tiktoken's openai_public.py; Qwen's tokenization_qwen.py)."""


def named_encoding(path: Path) -> Encoding:
    """What a file's name tells. Raises `InputError` for one that is not known."""
    encoding = ENCODINGS.get(path.name.removesuffix(RANKS))
    if encoding is None:
        raise InputError("ranks of an unknown name: how their texts are cut stands in no file", where=path,
                         fix=f"known: {', '.join(name + RANKS for name in ENCODINGS)}; GLM-4's are in tokenizer.model")
    return encoding


def glm4_encoding(count: int) -> Encoding:
    """GLM-4's, whose special ids follow its ranks."""
    return Encoding(CL100K_SPLIT, {name: count + at for at, name in enumerate(GLM4_SPECIALS)}, count)


def read_ranks(data: bytes, *, where: object) -> dict[bytes, int]:
    """Tokens and their ranks. Raises `InputError` for another kind of file."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise InputError(f"line {number} is not a base64 token and its rank", where=where,
                             fix="copy the file again") from None
    return ranks
