"""What a family's own tokenizer puts around a text that its model is to continue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from headwater.artifacts import read_json
from headwater.errors import InputError
from headwater.folders import TOKENIZER_JSON
from headwater.tokenizer.facts import BAICHUAN, Facts

LONG_BLANK = "[gMASK]"


class Frame(NamedTuple):
    """Ids before and behind a text."""

    before: tuple[int, ...]
    after: tuple[int, ...] = ()


def frame_of(facts: Facts, specials: Mapping[str, int], bos: int, eos: int) -> Frame:
    """Official code: ChatGLM-6B writes a text, then [gMASK] <sop>; ChatGLM2, 3 and GLM-4 those two before it; LLaMA
    its start token. Of other families, and where a folder says it: `add_bos_token`, else what `tokenizer.json` puts
    before a text, else the start token where the family has one of its own (Baichuan 2 has one and does not use it).
    Raises `InputError` for a damaged file."""
    blank = specials.get(LONG_BLANK)
    if blank is not None and specials.get("<sop>") == bos and "<eop>" in specials and specials["<eop>"] == eos:
        return Frame((), (blank, bos))
    ours = "<|end|>" in specials
    if blank is not None and not ours:
        return Frame((blank, specials["sop"] if "sop" in specials else specials["<sop>"]))
    said = facts.tokenizer.get("add_bos_token")
    if isinstance(said, bool):
        return Frame((bos,) if said else ())
    path = facts.folder / TOKENIZER_JSON
    written = read_json(path) if path.is_file() else None
    if isinstance(written, dict):
        try:
            return Frame(_template(written.get("post_processor")))
        except (AttributeError, KeyError, TypeError):
            raise InputError("a post_processor that is no template of special tokens", where=path,
                             fix="copy the tokenizer's file again") from None
    own = bos != eos and not (facts.tokenizer.get("tokenizer_class") == "BaichuanTokenizer"
                              or (facts.config.get("model_type") == BAICHUAN.lower() and "z_loss_weight" in
                                  facts.config))
    return Frame((bos,) if own else ())


def _template(processor: Any) -> tuple[int, ...]:
    """Ids that a `TemplateProcessing`, alone or among others, puts before a single text; anything else adds none."""
    if not isinstance(processor, dict):
        return ()
    if processor.get("type") == "Sequence":
        return tuple(index for one in processor.get("processors") or () for index in _template(one))
    if processor.get("type") != "TemplateProcessing":
        return ()
    tokens, found = processor.get("special_tokens") or {}, []
    for piece in processor.get("single") or ():
        if "SpecialToken" not in piece:
            break
        found += tokens[piece["SpecialToken"]["id"]]["ids"]
    return tuple(found)
