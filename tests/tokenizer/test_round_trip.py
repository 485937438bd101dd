"""Breaks when any text does not come back byte for byte, or gives an id that no text may give."""

from __future__ import annotations

import numpy as np
import pytest

from headwater.errors import InputError
from headwater.tokenizer import Tokenizer

STRINGS = 100_000


def random_strings(count: int) -> list[str]:
    """Of up to 20 code points: of all of Unicode, of the planes in use, of what tokenizers treat apart."""
    draw = np.random.default_rng(0)
    odd = np.array([*map(ord, "\0\t\n\r \u2581\u00a0\u200b\u200d\u2028\u3000\ufeff\ufdd0\ufffd09aA中é<|>_▁"), 0x1F469,
                    0x10FFFF], np.uint32)
    lengths = draw.integers(0, 21, count)
    points = draw.integers(0, 0x110000, lengths.sum(), dtype=np.uint32)
    kind = draw.integers(0, 3, len(points))
    points[kind == 1] = draw.integers(0, 0x3000, (kind == 1).sum(), dtype=np.uint32)
    points[kind == 2] = draw.choice(odd, (kind == 2).sum())
    points[(points >= 0xD800) & (points < 0xE000)] = 0x4E2D
    text = points.astype("<u4").tobytes().decode("utf-32-le")
    ends = np.cumsum(lengths).tolist()
    return [text[end - length:end] for end, length in zip(ends, lengths.tolist())]


def check(tokenizer: Tokenizer, texts: list[str]) -> None:
    packed = tokenizer.encode_packed(texts, threads=2)
    never = [tokenizer.bos, tokenizer.eos, tokenizer.pad, *tokenizer.specials.values()]
    assert not np.isin(packed.ids, never).any()
    whole = tokenizer.decode_bytes(packed.ids.tolist())
    assert whole == "".join(texts).encode()
    sizes = np.array([len(tokenizer.decode_bytes([index])) for index in range(tokenizer.vocab_size)])
    ends = np.concatenate([[0], np.cumsum(sizes[packed.ids])])[packed.offsets]
    assert np.array_equal(np.diff(ends), [len(text.encode()) for text in texts])


def test_a_hundred_thousand_random_strings_come_back(trained):
    check(trained, random_strings(STRINGS))


def test_strings_made_of_special_tokens_come_back_as_text(trained):
    draw = np.random.default_rng(1)
    parts = [*trained.specials, "<s>", "</s>", "<unk>", "<pad>", "<0x41>", "<|", "|>", " ", "\n", "user", "河"]
    check(trained, ["".join(draw.choice(parts, draw.integers(1, 9))) for _ in range(5000)])


def test_all_real_text_comes_back(trained, shared):
    files = sorted(file for file in (shared / "data" / "text").rglob("*") if file.suffix in (".txt", ".jsonl", ".json"))
    assert len(files) > 40
    for file in files:
        check(trained, file.read_text("utf-8").splitlines(keepends=True))


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc80\udcff"])
def test_lone_surrogates_are_refused(trained, text):
    for encode in (trained.encode, lambda text: trained.encode_packed([text])):
        with pytest.raises(InputError, match="lone surrogate"):
            encode(text)
