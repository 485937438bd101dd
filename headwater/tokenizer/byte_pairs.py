"""Byte-pair encoding through the `tokenizers` library: tiktoken's ranks, GPT-2's pair of files, `tokenizer.json`."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

from headwater.errors import InputError
from headwater.tokenizer.fast import Fast, TwoSpeeds, fast_bytes
from headwater.tokenizer.ranks import GPT2_SPLIT, Encoding

_SPACE_MARK = "▁"
_NEVER = (0xC0, 0xC1, *range(0xF5, 0x100))
"""Bytes that no UTF-8 text holds; some vocabularies lack them."""


class BytePairs(TwoSpeeds):
    """Text to ids and back through a `tokenizers.Tokenizer` whose special tokens are out of text's reach."""

    def __init__(self, tokenizer: Tokenizer, table: list[bytes], *, drops_space: bool = False,
                 composed: bool = False) -> None:
        self._tokenizer, self.table, self._drops_space, self.composed = tokenizer, table, drops_space, composed

    @property
    def size(self) -> int:
        return len(self.table)

    def piece(self, index: int) -> str:
        return self._tokenizer.id_to_token(index) or ""

    def id_of(self, piece: str) -> int | None:
        return self._tokenizer.token_to_id(piece)

    def as_json(self) -> dict[str, Any]:
        """The tokenizer as a `tokenizer.json` holds it."""
        values: dict[str, Any] = json.loads(self._tokenizer.to_str())
        return values

    def _prepared(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self.composed else text

    def _encode_slowly(self, texts: Sequence[str], threads: int) -> list[list[int]]:
        if threads > 1:
            return [row.ids for row in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        return [self._tokenizer.encode(text, add_special_tokens=False).ids for text in texts]

    def _open_fast(self) -> Fast | None:
        spelled, names = self._tokenizer.to_str(), []
        if self._tokenizer.get_added_tokens_decoder():
            values = json.loads(spelled)
            names = [token["content"] for token in values["added_tokens"]]
            # gigatoken would find special tokens in a text.
            values["added_tokens"] = [token for token in values["added_tokens"] if not token["special"]]
            spelled = json.dumps({**values, "post_processor": None})
        sample = [f"a{name} {name}b" for name in names]
        sample += [piece.decode(errors="ignore") for piece in self.table[::97]]
        return fast_bytes(spelled, sample, lambda texts: self._encode_slowly(texts, 1))

    def opening_spaces(self, ids: Sequence[int]) -> int:
        """1 where the text's first byte is a space that encoding put there."""
        if not self._drops_space:
            return 0
        first = next((self.table[i] for i in ids if 0 <= i < self.size and self.table[i]), b"")
        return int(first.startswith(b" "))


def from_ranks(ranks: Mapping[bytes, int], encoding: Encoding) -> BytePairs:
    """tiktoken's encoding. It joins any two neighbours whose union has a rank, lowest rank first, and takes a whole
    word that has one as it is: merges of every split of every token in rank order, and `ignore_merges`, say the same.
    """
    letters = _byte_letters()

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [(spell(left), spell(right)) for token in sorted(ranks, key=ranks.__getitem__)
              for left, right in _splits(token, ranks)]
    tokenizer = Tokenizer(models.BPE({spell(token): rank for token, rank in ranks.items()}, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = cutting(encoding.split)
    table = [b""] * encoding.size
    for token, rank in ranks.items():
        table[rank] = token
    return BytePairs(tokenizer, table, composed=encoding.composed)


def cutting(split: str) -> pre_tokenizers.PreTokenizer:
    """Into words by a pattern, and these into bytes."""
    if split == GPT2_SPLIT:  # the library has it under a name, by which gigatoken knows it
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _splits(token: bytes, ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The pairs that join into a token, those of lower ranks first."""
    cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
    known = [(left, right) for left, right in cuts if left in ranks and right in ranks]
    yield from sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def from_merges(ids: bytes, merges: bytes, *, where: object) -> tuple[BytePairs, dict[str, int]]:
    """GPT-2's tokenizer from its two files: the ids of the pieces (JSON) and the merges, one per line. Special are the
    pieces that no merge gives. Raises `InputError` for files of another kind.
    """
    vocabulary, pairs = _read_ids(ids, where), _read_merges(merges, where)
    single, joined = set(_BYTES), {left + right for left, right in pairs}
    if not all(letter in vocabulary for letter, byte in _BYTES.items() if byte not in _NEVER):
        raise InputError("pieces that lack single bytes: not a byte-level vocabulary, or a damaged one", where=where,
                         fix="copy the file again")
    specials = {piece: index for piece, index in vocabulary.items() if piece not in single and piece not in joined}
    plain = {piece: index for piece, index in vocabulary.items() if piece not in specials}
    size = max(vocabulary.values()) + 1
    return from_pieces(plain, pairs, cutting(GPT2_SPLIT), size=size, where=where), specials


def from_pieces(pieces: Mapping[str, int], pairs: Sequence[tuple[str, str]], cut: pre_tokenizers.PreTokenizer, *,
                size: int, words: Mapping[str, int] | None = None, composed: bool = False,
                where: object = None) -> BytePairs:
    """A byte-level vocabulary of `size` ids from its pieces, in which a printable letter stands for every byte, their
    merges, and `words` that are found in a text before it is cut. A byte without a piece is left out of texts. Raises
    `InputError` where pieces and merges do not fit."""
    words = words or {}
    try:
        tokenizer = Tokenizer(models.BPE({**pieces, **words}, list(pairs)))
    except Exception as error:  # the library raises bare exceptions
        raise InputError(f"pieces and merges that do not fit together ({error})", where=where,
                         fix="copy the files of one model again") from None
    tokenizer.pre_tokenizer = cut
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    table = [b""] * size
    for piece, index in pieces.items():
        table[index] = _from_letters(piece)
    for word, index in words.items():
        table[index] = word.encode()
    return BytePairs(tokenizer, table, composed=composed)


def _read_ids(data: bytes, where: object) -> dict[str, int]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", where=where, fix="copy the file again") from None
    if not isinstance(values, dict) or not all(isinstance(index, int) and index >= 0 for index in values.values()):
        raise InputError("JSON, but not pieces and their ids", where=where, fix="copy the file again")
    if len(set(values.values())) != len(values):
        raise InputError("two pieces share an id", where=where, fix="copy the file again")
    return values


def _read_merges(data: bytes, where: object) -> list[tuple[str, str]]:
    lines = data.decode("utf-8", errors="replace").removeprefix("\ufeff").split("\n")
    pairs = []
    for number, line in enumerate(lines, 1):
        parts = line.rstrip("\r").split(" ")
        if parts == [""] or (number == 1 and line.startswith("#version")):
            continue
        if len(parts) != 2:
            raise InputError(f"line {number} of its merges is not two pieces", where=where, fix="copy the file again")
        pairs.append((parts[0], parts[1]))
    return pairs


def from_json(data: bytes, named: Collection[str], *, where: object) -> tuple[BytePairs, dict[str, int]]:
    """The tokenizer of a `tokenizer.json` and its special ids: added tokens marked special, and the `named` ones.

    Raises `InputError` for anything but a byte-pair model with a decoder that we know, or one whose special tokens
    text could reach.
    """
    values = _parse(data, where)
    added = values["added_tokens"]
    for token in added:
        token["special"] = bool(token.get("special")) or token["content"] in named
    values["model"]["dropout"] = values["truncation"] = values["padding"] = None
    specials = {token["content"]: token["id"] for token in added if token["special"]}
    try:
        tokenizer = Tokenizer.from_str(json.dumps(values))
    except Exception as error:  # the library raises bare exceptions
        raise InputError(f"the tokenizers library cannot read it ({error})", where=where,
                         fix="copy the file again") from None
    _check_reach(values["model"], specials, where)
    for token in added:  # the library numbers tokens outside the model's vocabulary itself
        if (given := tokenizer.token_to_id(token["content"])) != token["id"]:
            raise InputError(f"the added token {token['content']!r} has id {token['id']}, its place gives it {given}",
                             where=where, fix="number added tokens in order, from the model's vocabulary on")
    tokenizer.encode_special_tokens = True  # special tokens in a text are text
    kinds = set(_types(values.get("decoder")))
    if not kinds & {"ByteLevel", "ByteFallback", "Metaspace"}:
        raise InputError(f"a decoder of {', '.join(sorted(kinds)) or 'no kind'}", where=where,
                         fix="known: ByteLevel, ByteFallback, Metaspace")
    drops = bool(kinds & {"Strip", "Metaspace"})
    return BytePairs(tokenizer, _table(tokenizer, added, "ByteLevel" in kinds), drops_space=drops), specials


def _parse(data: bytes, where: object) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not valid JSON: {error}", where=where, fix="copy the file again") from None
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise InputError("JSON, but not a tokenizer of the tokenizers library", where=where,
                         fix="give the tokenizer.json of a model folder")
    if model.get("type", "BPE") != "BPE":
        raise InputError(f"a tokenizer of type {model['type']!r}", where=where, fix="known: BPE")
    added = values.setdefault("added_tokens", [])
    if not isinstance(added, list) or not all(isinstance(token, dict) and isinstance(token.get("content"), str)
                                              and isinstance(token.get("id"), int) for token in added):
        raise InputError("added_tokens that are not a list of objects with id and content", where=where,
                         fix="copy the file again")
    return values


def _check_reach(model: dict[str, Any], specials: dict[str, int], where: object) -> None:
    """Special tokens in the model's own vocabulary must not come out of merging."""
    inside = {name for name in specials if name in model["vocab"] and name != model.get("unk_token")}
    if not inside:
        return
    joined = {"".join(pair.split(" ") if isinstance(pair, str) else pair) for pair in model.get("merges", ())}
    reached = inside if model.get("ignore_merges") else {name for name in inside if name in joined or len(name) == 1}
    if reached:
        raise InputError(f"text could produce the special tokens {', '.join(sorted(reached))}", where=where,
                         fix="take them out of the model's vocabulary, into added_tokens")


def _types(value: Any) -> Iterator[str]:
    """The types a component of the file is made of."""
    if isinstance(value, dict):
        yield str(value.get("type"))
        for part in value.get("decoders", ()):
            yield from _types(part)


def _table(tokenizer: Tokenizer, added: list[dict[str, Any]], byte_level: bool) -> list[bytes]:
    """What each id stands for in a text; special tokens stand for nothing."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values()) + 1)
    spell = _from_letters if byte_level else _from_marks
    for piece, index in vocabulary.items():
        table[index] = spell(piece)
    for token in added:
        table[token["id"]] = b"" if token["special"] else token["content"].encode()
    return table


def _from_marks(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes.fromhex(piece[3:5])
    return piece.replace(_SPACE_MARK, " ").encode()


def _from_letters(piece: str) -> bytes:
    if all(letter in _BYTES for letter in piece):
        return bytes(_BYTES[letter] for letter in piece)
    return piece.encode()


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable letter for every byte: itself where it prints, else from U+0100 on."""
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printing]
    return {**{byte: chr(byte) for byte in printing}, **{byte: chr(256 + at) for at, byte in enumerate(hidden)}}


_BYTES = {letter: byte for byte, letter in _byte_letters().items()}
