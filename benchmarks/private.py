"""Private data: recall, precision and speed of the rules beside presidio and scrubadub.

    python benchmarks/private.py [--full] [--seed N] [--part held] [--findings FILE]

Three measurements. Invented items in sentences that carry them (`_private_carriers.py`), set among real sentences
without digits, with numbers that are no private data mixed in: an item counts as found when every character of it is
covered by findings of its kind, a finding as right when it touches an item of its kind. The labelled set of presidio,
for the kinds the rules claim. Speed on real text in pieces of 2 kB, in documents per CPU second. `--findings`
writes what the rules find in all the real text and pages, one JSON object a line, for a person to judge.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from _harness import Case, arguments, installed, report
from _private_carriers import CHINESE, ENGLISH, NEGATIVES, part

from headwater.corpus.extraction.extract import extract
from headwater.corpus.privacy.private import find_private
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.readers import read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.reading.tidying import tidy

DATA = Path(__file__).resolve().parents[2] / "shared/data"
Labels = list[tuple[int, int, str]]
Engine = Callable[[str], Labels]
PRESIDIO = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "bank_card", "IBAN_CODE": "iban",
            "US_SSN": "ssn",
            "US_PASSPORT": "passport", "IP_ADDRESS": "ip", "MAC_ADDRESS": "mac"}
SCRUBADUB = {"email": "email", "phone": "phone", "credit_card": "bank_card", "social_security_number": "ssn"}
TELEPHONES = {"mobile": "phone"}  # other engines know no mobiles as such


@dataclass
class Tally:
    """Counts of one engine, by kind."""

    items: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def add(self, text: str, labels: Labels, findings: Labels) -> None:
        for start, end, kind in labels:
            self.items[kind] += 1
            covered = {place for a, b, k in findings if _same(k, kind) for place in range(max(a, start), min(b, end))}
            hit = all(place in covered or text[place].isspace() for place in range(start, end))
            self.found[kind] += hit
            self.errors += [] if hit else [f"missed {kind}: {text[max(0, start - 20):end + 15]!r}"]
        for start, end, kind in findings:
            hit = any(_same(kind, k) and a < end and start < b for a, b, k in labels)
            self.findings[kind] += 1
            self.right[kind] += hit
            self.errors += [] if hit else [f"wrong {kind}: {text[max(0, start - 20):end + 15]!r}"]

    def recall(self, *kinds: str) -> float:
        kinds = kinds or tuple(self.items)
        return sum(self.found[k] for k in kinds) / max(1, sum(self.items[k] for k in kinds))

    def precision(self, *kinds: str) -> float:
        kinds = kinds or tuple(self.findings)
        return sum(self.right[k] for k in kinds) / max(1, sum(self.findings[k] for k in kinds))


def _same(one: str, other: str) -> bool:
    return TELEPHONES.get(one, one) == TELEPHONES.get(other, other)


def ours(text: str) -> Labels:
    """What the rules find."""
    return [(one.start, one.end, one.kind) for one in find_private(text)]


def peers() -> dict[str, Engine | None]:
    """The other engines; None for one that is not installed."""
    found: dict[str, Engine | None] = {"presidio-analyzer": None, "scrubadub": None}
    if installed("presidio-analyzer"):
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NoOpNlpEngine

        analyzer = AnalyzerEngine(nlp_engine=NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "none"}]))
        known = [kind for kind in PRESIDIO if kind in analyzer.get_supported_entities("en")]
        found["presidio-analyzer"] = lambda text: [
            (one.start, one.end, PRESIDIO[one.entity_type])
            for one in analyzer.analyze(text, language="en", entities=known, score_threshold=0.4)]
    if installed("scrubadub"):
        import scrubadub

        scrubber = scrubadub.Scrubber()
        found["scrubadub"] = lambda text: [(one.beg, one.end, SCRUBADUB[one.type]) for one in scrubber.iter_filth(text)
                                           if one.type in SCRUBADUB]
    return found


def real_texts() -> Iterator[tuple[str, str, str]]:
    """(place, language, text) of every document of the real text."""
    for language in ("en", "zh"):
        for file in sorted((DATA / "text" / language).glob("*/*")):
            if file.name == "docs.jsonl" or file.suffix == ".jsonl":
                rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]
                texts = [row.get("text") or row.get("modern", "") for row in rows]
            elif file.suffix == ".json":
                texts = ["\n".join(row.get("paragraphs", [])) for row in json.loads(file.read_text("utf-8"))
                         if isinstance(row, dict)]
            else:
                texts = [file.read_text("utf-8")]
            for number, text in enumerate(texts):
                yield f"{file.parent.name}/{file.name}:{number}", language, tidy(text)


def real_pages() -> Iterator[tuple[str, str, str]]:
    """(place, language, text) of every real page, all its text kept."""
    for file in sorted((DATA / "html").rglob("*")):
        if file.is_file() and (file.suffix == ".html" or file.name.endswith(".html.gz")):
            content = next(read(list_shards([Source(path=file, format="html")])[0])).content
            try:
                page = extract(decode(content, declared_charset(content))[0], None)
            except UnicodeError:
                continue
            yield str(file.relative_to(DATA / "html")), "", page


def sentences(language: str, count: int) -> list[str]:
    """Real sentences without digits and without the signs of addresses."""
    kept = [piece.strip() for _, lang, text in real_texts() if lang == language
            for piece in text[:20_000].split("。" if language == "zh" else "\n")]
    kept = [piece for piece in kept if 15 < len(piece) < 200 and not any(c.isdigit() or c in "@<>" for c in piece)]
    return random.Random(1).sample(kept, min(count, len(kept)))


def planted(language: str, seed: int, documents: int, which: str) -> Iterator[tuple[str, Labels]]:
    """Documents of real sentences among which stand carriers with their items and numbers that are none."""
    draw = random.Random(f"{language} {seed}")
    real, kinds = sentences(language, 3000), CHINESE if language == "zh" else ENGLISH
    carriers = [(kind, make, carrier) for kind, (make, texts) in kinds.items()
                for carrier in texts if which == "all" or part(carrier) == which]
    by_kind = {kind: [(make, carrier) for k, make, carrier in carriers if k == kind] for kind in kinds}
    join = draw.choice
    for _ in range(documents):
        text, labels = "", []
        for _ in range(8):
            chance = draw.random()
            if chance < 0.4:
                kind = draw.choice([kind for kind in kinds if by_kind[kind]])
                make, carrier = draw.choice(by_kind[kind])
                item, (before, after) = make(draw), carrier.split("{}")
                labels.append((len(text) + len(before), len(text) + len(before) + len(item), kind))
                text += before + item + after
            elif chance < 0.65:
                text += draw.choice(NEGATIVES[language])(draw)
            else:
                text += draw.choice(real) + ("。" if language == "zh" else "")
            text += join(["\n", "", "，"]) if language == "zh" and text[-1] in "。，" else join(["\n", " "])
        yield text, labels


def presidio_set() -> Iterator[tuple[str, Labels]]:
    """The labelled set, with the labels of the kinds that the rules claim by form."""
    names = {**PRESIDIO, "STREET_ADDRESS": "address"}
    for row in json.loads((DATA / "filters/presidio_pii_en/synth_dataset_v2.json").read_text("utf-8")):
        yield row["full_text"], [(one["start_position"], one["end_position"], names[one["entity_type"]])
                                 for one in row["spans"] if one["entity_type"] in names]


def tally(documents: Iterable[tuple[str, Labels]], engine: Engine) -> Tally:
    """Run the engine over labelled documents."""
    counted = Tally()
    for text, labels in documents:
        counted.add(text, labels, engine(text))
    return counted


def rows_of(case: str, mine: Tally, theirs: dict[str, Tally | None], kinds: dict[str, set[str]]) -> list[Case]:
    """Recall per kind and precision, ours beside each peer on the kinds that it knows."""
    rows = [Case(case, f"{name} {kind}", figure, "-") for kind in sorted(mine.items)
            for name, figure in ((f"recall of {mine.items[kind]}", mine.recall(kind)),
                                 (f"precision of {mine.findings[kind]}", mine.precision(kind)))]
    rows += [Case(case, "recall", mine.recall(), "-"), Case(case, "precision", mine.precision(), "-")]
    for peer, other in theirs.items():
        if other is None:
            rows.append(Case(case, "recall", mine.recall(), f"{peer} is not installed"))
            continue
        shared = tuple(kind for kind in mine.items if TELEPHONES.get(kind, kind) in kinds[peer])
        rows += [Case.compare(case, f"{name} of {', '.join(shared)}", a, peer, b) for name, a, b in (
            ("recall", mine.recall(*shared), other.recall(*shared)),
            ("precision", mine.precision(*shared), other.precision(*{*shared, *kinds[peer]})))]
    return rows


def speed_rows(engines: dict[str, Engine | None], pieces: int, peer_pieces: int) -> list[Case]:
    """Documents of 2 kB without findings per CPU second."""
    cut = []
    for _, _, text in real_texts():
        size = 2000 * len(text) // max(1, len(text.encode("utf-8", "replace")))
        cut += [text[at:at + size] for at in range(0, min(len(text), 20 * size) - size, size)] if size else []
    clean = [text for text in random.Random(2).sample(cut, min(pieces, len(cut))) if not ours(text)]
    rate = _rate(ours, clean)
    rows = []
    for name, engine in engines.items():
        theirs = _rate(engine, clean[:peer_pieces]) if engine else None
        rows.append(Case.compare("clean text", "documents of 2 kB per CPU second", rate, name, theirs) if theirs else
                    Case("clean text", "documents of 2 kB per CPU second", rate, f"{name} is not installed"))
    return rows


def _rate(engine: Engine, texts: list[str]) -> float:
    rates = []
    for _ in range(3):
        start = time.process_time()
        for text in texts:
            engine(text)
        rates.append(len(texts) / (time.process_time() - start))
    return sorted(rates)[1]


def write_findings(path: Path) -> None:
    """What the rules find in the real text and pages, with what stands around it."""
    with path.open("w", encoding="utf-8") as out:
        for place, _, text in (*real_texts(), *real_pages()):
            for start, end, kind in ours(text):
                row = {"kind": kind, "item": text[start:end], "before": text[max(0, start - 40):start],
                       "after": text[end:end + 30], "place": place}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    options = arguments(__doc__, ("--seed", {"type": int, "default": 7}), ("--part", {"default": "held"}),
                        ("--findings", {"type": Path}), ("--errors", {"action": "store_true"}))
    if options.findings:
        write_findings(options.findings)
    others = peers()
    known = {"presidio-analyzer": set(PRESIDIO.values()), "scrubadub": set(SCRUBADUB.values())}
    rows: list[Case] = []
    documents, peer_documents = (2000, 300) if options.full else (500, 40)
    sets: dict[str, list[tuple[str, Labels]]] = {
        f"planted {language} ({options.part})": list(planted(language, options.seed, documents, options.part))
        for language in ("zh", "en")}
    sets["presidio's set"] = list(presidio_set())
    for case, labelled in sets.items():
        mine = tally(labelled, ours)
        if options.errors:
            print(case, *mine.errors, sep="\n  ")
        some = {peer: tally(labelled[:peer_documents], engine) if engine else None for peer, engine in others.items()}
        rows += rows_of(case, mine, some, known)
    rows += speed_rows(others, 4000, 200 if options.full else 30)
    report("private", rows, {}, tuple(others))


if __name__ == "__main__":
    main()
