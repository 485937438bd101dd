"""A page before it is dressed as a web page: title and blocks of main text, and what is true of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from headwater.atlas.world import Entity, Fact, LanguageCode

BlockKind = Literal["heading", "paragraph", "bullets", "table"]
PageKind = Literal["clean", "exact_copy", "near_copy", "boilerplate", "machine_spun", "ocr_damaged", "too_short",
                   "private_data", "abuse", "leaked", "other_language", "broken"]


@dataclass(frozen=True)
class Block:
    """`rows` holds one row of cells for a table row; sentences for a paragraph; one item per bullet."""

    kind: BlockKind
    rows: tuple[tuple[str, ...], ...]

    def lines(self, space: str) -> list[str]:
        """The block's text, a line for each table row, bullet or paragraph."""
        if self.kind == "table":
            return [" | ".join(row) for row in self.rows]
        if self.kind == "bullets":
            return [row[0] for row in self.rows]
        return [space.join(row[0] for row in self.rows)]


def heading(text: str) -> Block:
    return Block("heading", ((text,),))


def paragraph(*sentences: str) -> Block:
    return Block("paragraph", tuple((sentence,) for sentence in sentences))


def bullets(*items: str) -> Block:
    return Block("bullets", tuple((item,) for item in items))


def table(header: list[str], rows: list[list[str]]) -> Block:
    return Block("table", tuple(map(tuple, [header, *rows])))


@dataclass(frozen=True)
class Document:
    """One page's content and label.

    `key` names it within the world (files are named by a hash of it, which tells nothing of the kind). `planted`
    are the exact strings that make it a plant. `jaccard` is a near copy's true similarity to the page `of`.
    """

    key: str
    language: LanguageCode
    title: str
    blocks: tuple[Block, ...]
    kind: PageKind = "clean"
    entities: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    planted: tuple[str, ...] = ()
    of: str | None = None
    jaccard: float | None = None
    variant: str | None = None
    written_in: str | None = None
    """The language of the text where it is not the folder's."""

    @property
    def space(self) -> str:
        """What stands between two sentences of a paragraph."""
        return "" if (self.written_in or self.language) in ("zh", "ja") else " "

    @property
    def text(self) -> str:
        """The main text without the title: one line per paragraph, heading, bullet or table row."""
        return "\n".join(line for block in self.blocks for line in block.lines(self.space))

    def with_block(self, at: int, block: Block) -> Document:
        """The document with one more block before position `at`."""
        return replace(self, blocks=(*self.blocks[:at], block, *self.blocks[at:]))


@dataclass
class Record:
    """Collects which entities and facts a document tells."""

    entities: dict[str, None] = field(default_factory=dict)
    facts: dict[str, None] = field(default_factory=dict)

    def note(self, entity: Entity, fact: Fact | None = None) -> None:
        self.entities[entity.id] = None
        if fact is not None:
            self.facts[fact.id] = None
