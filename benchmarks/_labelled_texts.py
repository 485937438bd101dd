"""Labelled texts of the shipped classifiers, read from ../shared/data: only sources whose licence allows weights."""

from __future__ import annotations

import csv
import gzip
import hashlib
import html
import json
import random
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from headwater.artifacts import read_jsonl
from headwater.atlas import stage
from headwater.corpus.classifying.machine import prose

DATA = Path(__file__).parents[2] / "shared" / "data"

LICENCES = {
    "l2r": "CC BY 3.0 (ranhli/l2r_data)", "fast_detect_gpt4": "MIT (baoguangsheng/fast-detect-gpt)",
    "fast_detect_base": "MIT (baoguangsheng/fast-detect-gpt)", "dpo_mix": "Apache-2.0 (hiyouga/LLaMA-Factory)",
    "kto": "Apache-2.0 (hiyouga/LLaMA-Factory)", "glaive": "Apache-2.0 (glaive-function-calling-v2)",
    "dpo_zh": "Apache-2.0 (shibing624/MedicalGPT)", "hh_rlhf": "MIT (anthropics/hh-rlhf)",
    "oasst": "Apache-2.0 (OpenAssistant)", "kdconv": "Apache-2.0 (thu-coai/KdConv)",
    "crosswoz": "Apache-2.0 (thu-coai/CrossWOZ)", "cold": "Apache-2.0 (thu-coai/COLDataset)",
    "self_instruct": "Apache-2.0 (yizhongw/self-instruct)",
    "davidson": "MIT (t-davidson/hate-speech-and-offensive-language)",
    "toxigen": "MIT (microsoft/TOXIGEN)", "gaokao": "Apache-2.0 (OpenLMLab/GAOKAO-Bench)",
    "agt2025": "no licence: judged, never learnt from",
    "agt2025_tuned": "no licence: chose settings, never learnt from",
    "damaged": "made from the clean texts",
    "atlas": "Apache-2.0 (this project)",
    "rust_book": "MIT", "react_dev": "CC BY 4.0", "swift_book": "Apache-2.0", "hf_course": "Apache-2.0",
    "nodejs_blog": "MIT", "standard_ebooks": "CC0", "c4_demo": "ODC-BY", "based_cooking": "public domain",
    "world_factbook": "public domain", "system_design_primer": "CC BY 4.0", "tinyshakespeare": "public domain",
    "d2l": "Apache-2.0", "paddle_docs": "Apache-2.0", "how_to_cook": "Unlicense", "lctt_articles": "Apache-2.0",
    "laws": "not subject to copyright", "linux_command": "MIT", "luxun": "public domain", "classical_modern": "MIT",
}
CLEAN = {"en": ["rust_book", "react_dev", "swift_book", "hf_course", "nodejs_blog", "standard_ebooks", "c4_demo",
                "based_cooking", "world_factbook", "system_design_primer", "tinyshakespeare"],
         "zh": ["d2l", "rust_book", "react_dev", "swift_book", "hf_course", "paddle_docs", "how_to_cook",
                "lctt_articles", "laws", "linux_command", "luxun", "classical_modern"]}
"""Clean text whose licence allows weights."""
JUDGED = {"en": ["d2l", "wikitext2", "wiki_demo", "vue_docs"], "zh": ["oi_wiki", "tidb_docs", "ud_gsdsimp",
          "vue_docs"]}
"""Clean text that is only judged (share-alike or non-commercial)."""
_PART = 3000
"""Characters of one clean document."""


class Row(NamedTuple):
    text: str
    label: int
    lang: str
    group: str
    source: str


def write(path: Path, rows: Iterable[Row]) -> Path:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in rows)
    return path


def machine() -> Iterator[Row]:
    """Machine-made text (1) and people's (0)."""
    yield from _rewrites()
    yield from _continuations()
    yield from _answers()
    yield from _chats()
    yield from _people()
    yield from clean()
    yield from atlas("machine_spun")


def damaged(rows: Iterable[Row], kinds: dict[str, Any]) -> Iterator[Row]:
    """The prose of each clean text as it is (0) and as two bad scans read it (1)."""
    for clean_row in rows:
        row = clean_row._replace(text=prose(clean_row.text))
        yield row
        rng = random.Random(row.text)
        for _ in range(2):
            yield row._replace(text=rng.choice(kinds[row.lang])(row.text, row.lang, rng), label=1, source="damaged")


def toxicity() -> Iterator[Row]:
    """Abuse (1) and inoffensive text (0)."""
    for split in ("train", "dev"):
        for row in _csv(f"filters/cold_toxicity_zh/{split}.csv"):
            yield Row(row["TEXT"], int(row["label"]), "zh", row["TEXT"], "cold")
    for row in _csv("filters/davidson_toxicity_en/labeled_data.csv"):
        yield Row(html.unescape(row["tweet"]), int(row["class"] != "2"), "en", row["tweet"], "davidson")
    for path in sorted((DATA / "filters/toxigen").rglob("*.txt")):
        for statement in re.split(r"\\n-|\n-?", path.read_text(encoding="utf-8")):
            if len(statement.strip(" -\n")) > 8:
                yield Row(statement.strip(" -\n"), int(path.name.startswith("hate")), "en", statement, "toxigen")
    for row in [*clean(), *atlas()]:
        rng = random.Random(row.group)
        sentences = [part for part in re.split(r"(?<=[。！？.!?])\s*|\n", row.text) if len(part) > 4]
        for sentence in rng.sample(sentences, min(8, len(sentences))):
            yield row._replace(text=sentence[:300])


def detection_benchmark() -> Iterator[Row]:
    """The rows of agt2025: half of them (`agt2025_tuned`) chose between settings, the others gave the figures."""
    for row in _jsonl("filters/agt2025_human_vs_ai/agt2025.jsonl"):
        tuned = hashlib.sha1(row["id"].encode()).digest()[0] < 128
        yield Row(row["text"], row["label"], row["lang"], row["id"], "agt2025_tuned" if tuned else "agt2025")


def atlas(planted: str | None = None) -> Iterator[Row]:
    """Clean pages (0) and, when asked for, planted ones (1) of an invented world that no test looks at."""
    with tempfile.TemporaryDirectory() as scratch:
        stage.run(stage.AtlasSettings(seed=7), Path(scratch))
        for page in read_jsonl(Path(scratch) / "pages" / "labels.jsonl"):
            if page["kind"] in ("clean", planted):
                yield Row(page["text"], int(page["kind"] == planted), page["lang"], "atlas" + page["file"], "atlas")


def clean(names: dict[str, list[str]] = CLEAN) -> Iterator[Row]:
    """Parts of clean books, manuals and articles."""
    for lang, sources in names.items():
        for source in sources:
            for number, text in enumerate(_documents(DATA / "text" / lang / source)):
                parts = [text[at:at + _PART] for at in range(0, len(text), _PART)]
                chosen = sorted(parts, key=lambda part: hashlib.sha1(part.encode()).digest())[:4]
                yield from (Row(part, 0, lang, f"{lang}{source}{number}", source) for part in chosen)


def _documents(folder: Path) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.name == "bitext.jsonl":
            sentences = [row["modern"] for row in _jsonl(path)]
            yield from ("\n".join(sentences[at:at + 40]) for at in range(0, len(sentences), 40))
        elif path.suffix == ".jsonl":
            yield from (row["text"] for row in _jsonl(path))
        elif path.name == "wiki_demo.txt":
            yield from path.read_text(encoding="utf-8").split("\n")
        else:
            text = path.read_text(encoding="utf-8")
            if folder.name == "luxun":  # hard-wrapped
                text = re.sub(r"\n(?![\s\u3000])", "", text)
            yield from (text[at:at + 4 * _PART] for at in range(0, len(text), 4 * _PART))


def _rewrites() -> Iterator[Row]:
    for path in sorted((DATA / "filters/l2r_human_vs_ai_en").glob("*/*.json")):
        for number, text in enumerate(_json(path)):
            yield Row(text, int(path.stem != "human"), "en", f"l2r{path.parent.name}{number}", "l2r")


def _continuations() -> Iterator[Row]:
    for path in sorted((DATA / "filters/fast_detect_gpt_en").rglob("*.json")):
        source = "fast_detect_gpt4" if "gpt-4" in path.name else "fast_detect_base"
        for label, texts in enumerate(map(_json(path).get, ("original", "sampled"))):
            yield from (Row(text, label, "en", "fdg" + " ".join(text.split()[:12]), source) for text in texts)


def _answers() -> Iterator[Row]:
    for lang in ("en", "zh"):
        for number, row in enumerate(_json(f"preference/dpo_mix_{lang}/dpo_{lang}_demo.json")):
            texts = [*_said(row["conversations"]), row["chosen"]["value"], row["rejected"]["value"]]
            yield from (Row(text, 1, lang, f"dpo_mix{lang}{number}", "dpo_mix") for text in texts)
        for number, row in enumerate(_json(f"sft/glaive_toolcall_{lang}/glaive_toolcall_{lang}_demo.json")):
            yield Row("\n".join(_said(row["conversations"])), 1, lang, f"glaive{lang}{number}", "glaive")
    for number, row in enumerate(_jsonl("preference/dpo_zh_500/dpo_zh_500.jsonl")):
        yield from (Row(row[which], 1, "zh", f"dpo_zh{number}", "dpo_zh") for which in ("chosen", "rejected"))
    for number, row in enumerate(_json("preference/kto_en/kto_en_demo.json")):
        yield from (Row(turn["content"], 1, "en", f"kto{number}", "kto") for turn in row["messages"]
                    if turn["role"] == "assistant")


def _chats() -> Iterator[Row]:
    for kind in ("helpful-base", "helpful-online", "helpful-rejection-sampled"):
        path = next((DATA / "preference/hh_rlhf" / kind).glob("*.gz"))
        for number, line in enumerate(gzip.decompress(path.read_bytes()).decode().splitlines()):
            turns = re.split(r"\n\n(?=Human:|Assistant:)", json.loads(line)["chosen"].strip())
            for label, name in enumerate(("Human:", "Assistant:")):
                said = [turn.removeprefix(name).strip() for turn in turns if turn.startswith(name)]
                yield Row("\n".join(said), label, "en", f"hh{kind}{number}", "hh_rlhf")


def _people() -> Iterator[Row]:
    for row in _json("sft/oasst_sft_zh/oaast_sft_zh.json"):
        yield from (Row(text, 0, "zh", "oasst" + row["instruction"], "oasst")
                    for text in (row["output"], row["instruction"]))
    for path in sorted((DATA / "sft/kdconv_zh").glob("*.json")):
        for row in _json(path):
            yield Row("\n".join(turn["message"] for turn in row["messages"]), 0, "zh", "kdconv" + row["name"],
                      "kdconv")
    for name, row in _json("sft/crosswoz_zh/val_subset.json").items():
        yield Row("\n".join(turn["content"] for turn in row["messages"]), 0, "zh", "crosswoz" + name, "crosswoz")
    for row in _csv("filters/cold_toxicity_zh/dev.csv"):
        yield Row(row["TEXT"], 0, "zh", "cold" + row["TEXT"], "cold")
    for path in sorted((DATA / "sft/self_instruct_human").glob("*.jsonl")):
        for row in _jsonl(path):
            yield Row(str(row["instances"][0]["output"]), 0, "en", "self" + row["id"], "self_instruct")


def _said(turns: list[dict[str, str]]) -> list[str]:
    return [turn["value"] for turn in turns if turn["from"] == "gpt"]


def _json(path: Path | str) -> Any:
    return json.loads((DATA / path).read_text(encoding="utf-8"))


def _jsonl(path: Path | str) -> Iterator[Any]:
    with (DATA / path).open(encoding="utf-8") as stream:
        yield from (json.loads(line) for line in stream if line.strip())


def _csv(path: str) -> Iterator[dict[str, str]]:
    with (DATA / path).open(encoding="utf-8-sig", newline="") as stream:
        yield from csv.DictReader(stream)
