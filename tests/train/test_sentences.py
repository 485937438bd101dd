import re

import numpy as np
import pytest

from headwater.train.sentences import SentenceEnds


class Words:
    """A tokenizer whose pieces are words with the space before them, single marks and Han."""

    def __init__(self, *texts):
        self.names = ["<eos>"]
        for text in texts:
            self.names += [name for name in self.pieces(text) if name not in self.names]
        self.vocab_size = len(self.names)

    def pieces(self, text):
        return re.findall(r" ?[a-zA-Z]+| ?\d+|\s+|.", text)

    def encode(self, text):
        return [self.names.index(name) for name in self.pieces(text)]

    def decode_bytes(self, ids):
        return b"".join(self.names[index].encode() for index in ids if index)


@pytest.mark.parametrize(("text", "sentences"), [
    ("It rises here. It ends there! Why?", ["It rises here.", " It ends there!", " Why?"]),
    ("It is 3.14 km long. Yes.", ["It is 3.14 km long.", " Yes."]),
    ("河水流入湖中。湖深十米！为什么？", ["河水流入湖中。", "湖深十米！", "为什么？"]),
    ("No end\nin a line. New\n\nline.\n", ["No end\nin a line.", " New\n\nline.", "\n"]),
    ("headwater.train is a room", ["headwater.train is a room"]),
])
def test_sentences_end_where_readers_end_them(text, sentences):
    """A full stop inside a number or a name ends nothing; 。！？ need no space after them."""
    tokenizer = Words(text)
    ids = np.array(tokenizer.encode(text))
    ends = SentenceEnds.of(tokenizer).after(ids)
    names, found = [tokenizer.names[index] for index in ids], [""]
    for name, end in zip(names, ends):
        found[-1] += name
        found += [""] if end else []
    assert [one for one in found if one] == sentences


def test_a_full_stop_before_the_end_of_a_document_ends_a_sentence():
    tokenizer = Words("one. two.")
    ids = np.array([*tokenizer.encode("one. two."), 0])
    assert np.flatnonzero(SentenceEnds.of(tokenizer).after(ids)).tolist() == [1, 3]


def test_a_trained_tokenizer_tells_the_sentences_of_both_languages(trained):
    ids = np.array(trained.encode("The river rises on Mount Taro. It is long. 河水流入奥鲁马湖。湖深一百二十米。"))
    ends = np.flatnonzero(SentenceEnds.of(trained).after(ids))
    cuts = [trained.decode_bytes(part.tolist()).decode().strip() for part in np.split(ids, ends + 1)]
    assert [cut for cut in cuts if cut] == ["The river rises on Mount Taro.", "It is long.", "河水流入奥鲁马湖。",
                                            "湖深一百二十米。"]
