"""The invented web: every page of one size, and the labels that say what is true of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headwater.artifacts import atomic_folder, write_jsonl
from headwater.atlas.articles import Neighbours, article
from headwater.atlas.choice import ChoiceQuestion
from headwater.atlas.documents import Document
from headwater.atlas.language import Language
from headwater.atlas.oddities import broken_bytes
from headwater.atlas.plants import COUNTS, Planter, plant_count
from headwater.atlas.randomness import digest, stream
from headwater.atlas.sites import dress
from headwater.atlas.sizes import SIZES
from headwater.atlas.surveys import comparison, survey
from headwater.atlas.world import ATTRIBUTES, World
from headwater.progress import Bar

UNREADABLE = ("binary", "pdf")


def clean_documents(world: World, language: Language, neighbours: Neighbours) -> Iterator[Document]:
    """The pages that teach the facts."""
    size = SIZES[world.size]
    for entity in world.described():
        for index in range(size.articles_per_entity):
            yield article(world, language, neighbours, entity, index)
    for region in range(size.regions):
        for index in range(size.surveys_per_region):
            listed = survey(world, language, region, list(ATTRIBUTES)[index % 4], index // 4)
            if listed is not None:
                yield listed
    for index in range(size.comparisons):
        yield comparison(world, language, index)


def documents(world: World, language: Language, questions: list[ChoiceQuestion]) -> Iterator[Document]:
    """Every page of one language, plants included; a page's copy comes after it."""
    neighbours = Neighbours(world)
    clean = []
    for document in clean_documents(world, language, neighbours):
        clean.append(document)
        yield document
    yield from Planter(world, language, clean, questions, neighbours).plants(SIZES[world.size].plants)


def count_pages(world: World) -> int:
    """How many pages will be written, a little too many where a region's list would be too short."""
    size = SIZES[world.size]
    clean = (len(world.described()) * size.articles_per_entity + size.regions * size.surveys_per_region
             + size.comparisons)
    return 2 * (clean + sum(plant_count(kind, size.plants) for kind in COUNTS))


def write_pages(out: Path, world: World, questions: dict[Language, list[ChoiceQuestion]], bar: Bar) -> Counter[str]:
    """Write `out/{en,zh}/*.html` and `out/labels.jsonl`, the whole folder at once; return the pages of each kind."""
    labels, kinds = [], Counter[str]()
    with atomic_folder(out) as staging:
        for language, asked in questions.items():
            (staging / language.code).mkdir()
            for document in documents(world, language, asked):
                labels.append(_write_page(staging, document, world.seed))
                kinds[document.kind] += 1
                bar.advance()
        labels.sort(key=lambda label: label["file"])
        write_jsonl(staging / "labels.jsonl", labels)
    return kinds


def file_name(document_key: str, folder: str, seed: int) -> str:
    """Path below the pages' folder; its order says nothing of what the page is."""
    return f"{folder}/{digest(seed, 'file', document_key)[:12]}.html"


def _write_page(out: Path, document: Document, seed: int) -> dict[str, Any]:
    page = dress(document, seed, "gb18030" if document.variant == "gb18030" else "utf-8")
    content = page.markup.encode()
    if document.variant is not None:
        content = broken_bytes(page.markup, document.variant, stream(seed, document.key, "bytes"))
    name = file_name(document.key, document.language, seed)
    with open(out / name, "xb") as file:
        file.write(content)
    return _label(document, name, page.url, seed)


def _label(document: Document, name: str, url: str, seed: int) -> dict[str, Any]:
    readable = document.variant not in UNREADABLE
    return {
        "file": name, "url": url, "lang": document.written_in or document.language, "kind": document.kind,
        "variant": document.variant, "jaccard": document.jaccard,
        "of": None if document.of is None else file_name(document.of, document.language, seed),
        "entities": list(document.entities), "facts": list(document.facts), "planted": list(document.planted),
        "title": document.title if readable else None, "text": document.text if readable else None,
    }
