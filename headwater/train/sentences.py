"""Where sentences end, told by token ids."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.tokenizer import Tokenizer
from headwater.train.batches import Ints

_CLOSERS = "\"'”’」』）)]"
_END = re.compile(rf"[。！？][{re.escape(_CLOSERS)}]*\s*$|[.!?][{re.escape(_CLOSERS)}]*\s+$")
_END_BEFORE_SPACE = re.compile(rf"[.!?][{re.escape(_CLOSERS)}]*$")


class SentenceEnds(NamedTuple):
    """By token id, bool [V]. Chinese sentences end with 。！？, English ones with . ! ? before white space; quotation
    marks and brackets that the same piece closes belong to the sentence."""

    ends: NDArray[np.bool_]
    """Pieces that end a sentence whatever follows."""
    may_end: NDArray[np.bool_]
    """Pieces that end one where white space, or nothing, follows."""
    spaces: NDArray[np.bool_]
    """Pieces that begin with white space, and those without a text, such as the end of a document."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> SentenceEnds:
        """By the text of each piece; a mark that a tokenizer spells in bytes is not seen."""
        texts = [tokenizer.decode_bytes([index]).decode("utf-8", errors="replace")
                 for index in range(tokenizer.vocab_size)]
        return cls(np.array([_END.search(text) is not None for text in texts]),
                   np.array([_END_BEFORE_SPACE.search(text) is not None for text in texts]),
                   np.array([not text or text[0].isspace() for text in texts]))

    def after(self, ids: Ints) -> NDArray[np.bool_]:
        """bool [n]: whether a sentence ends with each token."""
        spaced = np.append(self.spaces[ids[1:]], True)
        found: NDArray[np.bool_] = self.ends[ids] | (self.may_end[ids] & spaced)
        return found
