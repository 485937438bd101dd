"""Benchmark questions found in documents: recall of planted ones, clean documents hit, speed and memory.

    python benchmarks/contamination.py [--full] [--data FOLDER]

FOLDER holds `benchmarks/` (a folder for each benchmark, as published) and `text/` (JSON lines with `text`); without
it only the invented questions are measured. Settings were chosen on the questions and documents whose SHA-1 is even;
the rows come from the others. datatrove's n-gram filter gets the same 50,000 questions and documents where it is
installed, with its defaults, its n-grams computed by its own functions (its indexer wants lighteval).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from _harness import Case, arguments, installed, report

from headwater.corpus.decontamination.benchmarks import BenchmarkSource, Question, read_benchmark
from headwater.corpus.decontamination.contamination import ContaminationSettings, LeakIndex

OURS, NOBODY = "ours", "-"
DATA = Path(__file__).resolve().parents[2] / "shared/data"
QUESTIONS = 50_000
HAN = re.compile("[\u4e00-\u9fff]")
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
MARKS = str.maketrans("，。？：；（）,?\";", ",.?:;()，？”；")


def labelled(label: str, separator: str = "\n", letters: str = "ABCDEFGHIJ") -> Callable[[Question], str]:
    return lambda question: separator.join([question.text, *(
        label.format(letter, option) for letter, option in zip(letters, question.options, strict=False))])


AS_PUBLISHED = labelled("{}. {}")
VARIANTS: dict[str, Callable[[Question], str]] = {
    "verbatim": AS_PUBLISHED,
    "upper case": lambda question: AS_PUBLISHED(question).upper(),
    "full width": lambda question: AS_PUBLISHED(question).translate(WIDE),
    "other spaces": lambda question: re.sub("([\u4e00-\u9fff])(?=[A-Za-z0-9])", r"\1 ", AS_PUBLISHED(question)
                                            ).replace(" ", "  "),
    "other punctuation": lambda question: AS_PUBLISHED(question).translate(MARKS),
    "(A) choices": labelled("({}) {}"),
    "A、 choices": labelled("{}、{}"),
    "1. choices": labelled("{}. {}", letters="123456789"),
    "choices in one line": labelled("{}. {}", " "),
    "question only": lambda question: question.text,
    "question and answer": lambda question: f"{question.text}\n{question.answer}",
    "quoted in a sentence": lambda question: f"有人问：“{question.text.strip()}”，大家都说很难。"
    if HAN.search(question.text) else f"Somebody asked me: \"{question.text.strip()}\" the other day.",
    "run into a sentence": lambda question: f"有人问道{question.text.strip()}这样的问题"
    if HAN.search(question.text) else f"Somebody asked me {question.text.strip()} and nobody knew",
    "wrapped lines": lambda question: re.sub(r"(.{40}\S*) ", r"\1\n", AS_PUBLISHED(question))}
CHOICES = ("(A) choices", "A、 choices", "1. choices", "choices in one line")


def is_held_out(text: str) -> bool:
    return hashlib.sha1(text.encode()).digest()[0] & 1 == 1


def documents(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of every held-out document of JSON lines below a folder."""
    for path in sorted(folder.rglob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
            row = json.loads(line or "{}")
            name = f"{path.parent.relative_to(folder).as_posix()}{path.name}#{row.get('id', number)}"
            if row.get("text") and is_held_out(name):
                yield name, row["text"]


def real(folder: Path, each: int) -> list[Case]:
    """Recall per benchmark and per variant, with all questions and with those sought; clean documents hit."""
    sources, read = [], []
    for path in sorted((folder / "benchmarks").iterdir()):
        source = BenchmarkSource(path=path)
        if path.name != "needle_haystack":  # essays, no questions
            sources.append(source)
            read += [read_benchmark(source)]
    index = LeakIndex.of_questions((question for benchmark in read for question in benchmark.questions),
                                   ContaminationSettings(benchmarks=tuple(sources)))
    texts = list(documents(folder / "text"))
    hosts = [text for _, text in texts if len(text) > 1000]
    draw, found = random.Random(0), dict.fromkeys(VARIANTS, 0)
    planted, rows = dict.fromkeys(VARIANTS, 0), []
    for benchmark in read:
        held_out = [question for question in benchmark.questions if is_held_out(question.text)]
        chosen = draw.sample(held_out, min(each, len(held_out)))
        before, hits = sum(planted.values()), sum(found.values())
        for name, write in VARIANTS.items():
            for question in chosen:
                if question.options or name not in CHOICES:
                    planted[name] += 1
                    found[name] += was_found(index, question, plant(draw, write(question), draw.choice(hosts)))
        share = (sum(found.values()) - hits) / (sum(planted.values()) - before)
        rows.append(Case(f"{benchmark.name}, {len(chosen)} questions", "recall", share, NOBODY))
    rows += [Case(name, "recall", found[name] / planted[name], NOBODY) for name in VARIANTS]
    rows.append(Case("all planted", "recall", sum(found.values()) / sum(planted.values()), NOBODY))
    rows.append(Case("questions not sought", "share", index.unchecked / len(index.names), NOBODY))
    hit = [name for name, text in texts if index.leaks(text)]
    rows.append(Case(f"clean documents ({len(texts):,})", "share hit", len(hit) / len(texts), NOBODY))
    print("clean documents hit:", ", ".join(hit) or "none")
    return rows


def plant(draw: random.Random, passage: str, host: str) -> str:
    """Two pieces of a document of at most 1500 characters with the passage between them, on lines of its own."""
    at = draw.choice([match.end() for match in re.finditer(r"\n|\. |。", host)] or [len(host)])
    return f"{host[max(0, at - 1500):at]}\n{passage}\n{host[at:at + 1500]}"


def was_found(index: LeakIndex, question: Question, text: str) -> bool:
    wanted = question.benchmark, question.file, question.row
    return any((leak.benchmark, leak.file, leak.row) == wanted for leak in index.leaks(text))


def invented(draw: random.Random, count: int, longest: int) -> list[str]:
    """Texts of 20 to `longest` invented words, every second one in Chinese characters."""
    words = ["".join(draw.choices("abcdefghiklmnoprstuw", k=draw.randint(2, 9))) for _ in range(5000)]
    signs = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
    return ["".join(draw.choices(signs, k=draw.randint(20, longest))) + "？" if number % 2 else
            " ".join(draw.choices(words, k=draw.randint(20, longest))) + "?" for number in range(count)]


def speed(count: int) -> list[Case]:
    """Documents per CPU second against 50,000 questions, and what the index takes."""
    draw = random.Random(1)
    questions = invented(draw, QUESTIONS, 60)
    pages = invented(draw, count, 1000)
    asked = [Question("b", "f", row, text) for row, text in enumerate(questions)]
    settings = ContaminationSettings(benchmarks=(BenchmarkSource(path=Path("b")),))
    start = time.process_time()
    index = LeakIndex.of_questions(asked, settings)
    built = time.process_time() - start
    runs: dict[str, Callable[[str], object]] = {OURS: index.leaks}
    name = f"datatrove {installed('datatrove')}"
    try:
        runs[name] = datatrove(questions)
    except ImportError as error:
        name = f"datatrove: {str(error).splitlines()[0]}"
    seconds: dict[str, list[float]] = {who: [] for who in runs}
    for run in runs.values():
        run(pages[0])
    for _ in range(3):
        for who, run in runs.items():
            start = time.process_time()
            for page in pages:
                run(page)
            seconds[who].append(time.process_time() - start)
    rates = {who: count / float(np.median(values)) for who, values in seconds.items()}
    case = f"{QUESTIONS:,} questions, documents of {sum(map(len, pages)) / count:,.0f} characters"
    metric = "documents per CPU second"
    row = Case.compare(case, metric, rates[OURS], name, rates[name]) if name in rates \
        else Case(case, metric, rates[OURS], name)
    return [row, Case(case, "index, MB", index.nbytes / 1e6, NOBODY), Case(case, "build, CPU s", built, NOBODY)]


def datatrove(questions: list[str]) -> Callable[[str], object]:
    """Its filter over its 12-grams of the questions."""
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontFilter
    from datatrove.utils.text import ngrams, simplify_text

    folder = tempfile.mkdtemp()
    peer = NGramsDecontFilter(folder)
    tokenised = (peer.tokenizer.word_tokenize(simplify_text(text, peer.config.norm_config)) for text in questions)
    hashes = {peer.hash_func(" ".join(gram)) for words in tokenised for gram in ngrams(words, peer.config.n_grams)}
    np.array(list(hashes), peer.config.hash_config.np_descr).tofile(Path(folder) / "b.index.hashes")
    return lambda text: peer.filter(Document(text=text, id="0"))


def main() -> None:
    options = arguments(__doc__, ("--data", {"type": Path, "default": DATA}))
    rows = real(options.data, 400 if options.full else 30) if options.data.is_dir() else []
    report("contamination", rows + speed(2000 if options.full else 200), {}, ("datatrove", "numpy"))


if __name__ == "__main__":
    main()
