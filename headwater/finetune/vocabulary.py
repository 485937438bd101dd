"""A model with a larger vocabulary: another tokenizer's pieces added, embedding and head resized."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Annotated

from pydantic import Field
from rich.table import Table

from headwater.artifacts import atomic_folder, atomic_write, make_folder, read_json, write_json
from headwater.errors import InputError
from headwater.folders import SENTENCEPIECE, TOKENIZER_CONFIG, TOKENIZER_JSON
from headwater.model.checkpoint import load_model, save_model
from headwater.model.resize import grow_vocabulary
from headwater.progress import print_result
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.compression import Measured, Row
from headwater.tokenizer.extending import Wanted, extended
from headwater.tokenizer.identity import CLASSES, JSON
from headwater.tokenizer.texts import batches, read_texts


class ExtendSettings(Settings):
    """Which pieces are added, and what the change is measured on."""

    pieces_from: InputPath
    """A tokenizer folder with a SentencePiece model: the new pieces are those that the model's lacks."""
    pieces: Wanted = "chinese"
    """Pieces with a Chinese character or sign, or all."""
    pad_to: Annotated[int, Field(ge=1)] = 64
    """The rows of embedding and head are a multiple of this."""
    texts: InputPath | None = None
    """Text on which compression before and after is shown."""


def extend(model: Path, out: Path, settings: ExtendSettings) -> None:
    """Write the model folder `model` with the larger vocabulary to `out`, whole or not at all, and print what changed.

    Old ids and their rows stay; a new row is the mean of the rows that spelled its piece before, in the embedding and
    in the head. Raises `InputError` for a tokenizer that is not a SentencePiece model, or whose special ids come after
    its pieces (they would move), and when nothing is new.
    """
    before, base = _opened(model)
    _, other = _opened(settings.pieces_from)
    if any(index >= before.pieces for index in before.specials.values()):
        raise InputError("the special ids of this family follow its pieces and would move", where=model,
                         fix="extend a model whose special tokens are pieces (LLaMA, Baichuan, our own)")
    larger = extended(base, other, settings.pieces)
    first = before.vocab_size
    parts = _parts(before, larger.added)
    size = -(-(first + len(parts)) // settings.pad_to) * settings.pad_to
    decoder = grow_vocabulary(load_model(model), parts, first, size)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the target is there already", where=out, fix="give a new or an empty folder")
    make_folder(out.parent, fix="give another target")
    with atomic_folder(out) as staging:
        save_model(decoder, staging, tokenizer_from=model)
        with atomic_write(staging / SENTENCEPIECE) as stream:
            stream.write(larger.model)
        _leave_the_model_alone(staging)
        after = Tokenizer.load(staging)
        rows = _measured(before, after, settings.texts) if settings.texts is not None else []
        write_json(staging / "extended.json", {"from": str(model), "pieces_from": str(settings.pieces_from),
                                               "old": first, "new": len(parts), "rows": size})
    print_result(f"{len(parts):,} pieces added to {first:,}; embedding and head have {size:,} rows")
    if rows:
        print_result(_table(rows))


def _parts(tokenizer: Tokenizer, pieces: list[str]) -> list[list[int]]:
    """The ids that spelled each piece so far, behind a line break, so that no family puts a space before them."""
    opening = len(tokenizer.decode_bytes(tokenizer.encode("\n")))
    found = []
    for ids in tokenizer.encode_batch(["\n" + piece.replace("▁", " ") for piece in pieces]):
        sizes = accumulate(len(tokenizer.decode_bytes([index])) for index in ids)
        found.append([index for index, end in zip(ids, sizes) if end > opening])
    return found


def _leave_the_model_alone(folder: Path) -> None:
    """Take away what speaks of the old pieces, so that the SentencePiece model says it all."""
    (folder / TOKENIZER_JSON).unlink(missing_ok=True)
    said = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).exists() else {}
    if "tokenizer_class" in said and CLASSES.get(said["tokenizer_class"], JSON) == JSON:
        write_json(folder / TOKENIZER_CONFIG, {**said, "tokenizer_class": "LlamaTokenizer"})


def _opened(folder: Path) -> tuple[Tokenizer, bytes]:
    if not (folder / SENTENCEPIECE).is_file():
        raise InputError(f"no SentencePiece model here ({SENTENCEPIECE})", where=folder,
                         fix="give a folder whose tokenizer is one")
    tokenizer = Tokenizer.load(folder)
    return tokenizer, (folder / SENTENCEPIECE).read_bytes()


def _measured(before: Tokenizer, after: Tokenizer, path: Path) -> list[tuple[Row, Row]]:
    found: dict[str, tuple[Measured, Measured]] = {}
    for language, texts in batches(read_texts(path)):
        if language not in found:
            found[language] = Measured(before), Measured(after)
        for one in found[language]:
            one.add(texts)
    return [(old.row("before", "", language), new.row("after", "", language))
            for language, (old, new) in sorted(found.items())]


def _table(rows: list[tuple[Row, Row]]) -> Table:
    table = Table(title="Before and after")
    for heading in ("language", "bytes/token before", "after", "tokens before", "after",
                    "parts of characters before", "after"):
        table.add_column(heading, justify="left" if heading == "language" else "right")
    for old, new in rows:
        table.add_row(old.language, f"{old.bytes_per_token:.3f}", f"{new.bytes_per_token:.3f}", f"{old.tokens:,}",
                      f"{new.tokens:,}", f"{old.partial:.1%}", f"{new.partial:.1%}")
    return table
