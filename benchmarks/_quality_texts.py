"""Texts that quality rules are judged on: clean ones by source, raw pages, and junk made from clean texts."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path

from headwater.corpus.extraction.extract import extract
from headwater.corpus.judging.language import identify
from headwater.corpus.judging.length import count_tokens
from headwater.corpus.reading.encodings import declared_charset, decode
from headwater.corpus.reading.readers import read
from headwater.corpus.reading.sources import Source, list_shards
from headwater.corpus.reading.tidying import tidy

PIECE = 8000
"""Characters after which a book is cut, at a line's end: as long as a chapter."""
DERIVED_FROM = ("d2l", "rust_book", "react_dev", "swift_book", "hf_course", "oi_wiki", "tidb_docs", "paddle_docs",
                "lctt_articles", "laws", "luxun", "cmrc2018", "drcd", "modern",
                "classical", "chinese_poetry", "how_to_cook")
"""Chinese sources the thresholds come from: books, manuals, encyclopaedias, articles, laws, recipes, poems."""
CLEAN_KINDS = {"docs": ("d2l", "hf_course", "paddle_docs", "react_dev", "rust_book", "swift_book", "tidb_docs",
                        "vue_docs", "lctt_articles"),
               "books": ("d2l", "rust_book", "swift_book", "luxun", "classical", "modern", "standard_ebooks"),
               "encyclopaedia": ("oi_wiki", "cmrc2018", "drcd", "wiki_demo")}
"""Sources that are pooled to one figure; a technical book counts in two of them."""
NAVIGATION = {
    "zh": "首页;新闻;体育;财经;娱乐;科技;汽车;房产;教育;健康;旅游;视频;图片;论坛;博客;登录;注册;更多;下载;帮助;"
          "关于我们;联系我们;网站地图;广告服务;招聘信息;版权声明;友情链接;收藏本站;设为首页;手机版",
    "en": "Home;News;Sports;Business;Log in;Sign up;Contact us;About us;Site map;Careers;Advertise;Videos;Photos;"
          "Forums;Blogs;Downloads;Help;Read more;Share;Tweet;Follow us;Next;Previous;Archive"}
KEYWORDS = {
    "zh": "二手车;贷款;代开发票;彩票;优惠;正品;批发;厂家直销;减肥;丰胸;增高;赚钱;兼职;网赚;刷单;棋牌;娱乐城;老虎机;"
          "时时彩;六合彩;信用卡;套现;祛斑;美白",
    "en": "cheap;viagra;casino;poker;loans;replica;watches;mortgage;pills;discount;bonus;jackpot;credit;debt;insurance;"
          "pharmacy;diet;crypto;escort;slots;forex;hosting;seo"}


@dataclass(frozen=True)
class Clean:
    """A clean text: `key` names the document it is (a piece of), by which texts are split in halves."""

    source: str
    key: str
    text: str

    @property
    def first_half(self) -> bool:
        return hashlib.sha1(f"{self.source}/{self.key}".encode()).digest()[0] < 128


def clean_texts(data: Path, language: str) -> list[Clean]:
    """Tidied clean texts of at least 100 tokens in that language, each once; books in pieces."""
    found: dict[str, Clean] = {}
    for source, key, whole in chain(_pages(data / "text" / language), _chinese(data) if language == "zh" else
                                    _english(data / "text/en")):
        for text in map(tidy, pieces(whole)):
            if text not in found and count_tokens(text) >= 100 and identify(text).code == language:
                found[text] = Clean(source, key, text)
    return list(found.values())


def _pages(root: Path) -> Iterator[tuple[str, str, str]]:
    for folder in sorted(root.iterdir()):
        if (folder / "docs.jsonl").is_file():
            for row in _rows(folder / "docs.jsonl"):
                yield folder.name, row["id"], row["text"]
    for name in ("luxun", "standard_ebooks"):
        for book in sorted((root / name).glob("*.txt")):
            yield name, book.stem, book.read_text("utf-8")


def _english(root: Path) -> Iterator[tuple[str, str, str]]:
    for line in (root / "wiki_demo/wiki_demo.txt").read_text("utf-8").split("\n"):
        yield "wiki_demo", line[:50], line
    for row in _rows(root / "c4_demo/c4_demo.jsonl"):
        yield "c4_demo", row["text"][:50], row["text"]


def _chinese(data: Path) -> Iterator[tuple[str, str, str]]:
    for name in ("cmrc2018/squad-style-data/cmrc2018_dev.json", "drcd/DRCD_test.json"):
        for article in json.loads((data / "benchmarks" / name).read_text("utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                yield name.split("/")[0], article["title"], paragraph["context"]
    rows = _rows(data / "text/zh/classical_modern/bitext.jsonl")
    for book, group in groupby(rows, key=lambda row: row["id"]):
        pairs = list(group)
        for side in ("classical", "modern"):
            yield side, book, "\n".join(pair[side] for pair in pairs)
    for file in sorted((data / "text/zh/chinese_poetry").glob("*.json")):
        poems = json.loads(file.read_text("utf-8"))
        texts = ["\n".join([poem.get("title") or poem.get("rhythmic") or "", *poem["paragraphs"]])
                 for poem in (poems if isinstance(poems, list) else [])
                 if all(isinstance(line, str) for line in poem.get("paragraphs", [{}]))]
        for start in range(0, len(texts), 6):
            yield "chinese_poetry", f"{file.stem}/{start}", "\n\n".join(texts[start:start + 6])


def _rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").split("\n") if line]


def pieces(text: str) -> Iterator[str]:
    """`text` in pieces of about `PIECE` characters, cut between lines; a shorter one whole."""
    piece: list[str] = []
    size = 0
    for line in text.split("\n"):
        piece.append(line)
        size += len(line) + 1
        if size > PIECE and len(text) > 4 * PIECE:
            yield "\n".join(piece)
            piece, size = [], 0
    yield "\n".join(piece)


def raw_pages(data: Path, language: str) -> tuple[list[str], list[str]]:
    """Of the real pages in that language: all visible text, and what the extractor leaves out of it."""
    pages, rests = [], []
    for shard in list_shards([Source(path=data / "html", format="html")]):
        for raw in read(shard):
            try:
                page, _ = decode(raw.content, declared_charset(raw.content))
            except UnicodeError:
                continue
            text, main = extract(page, None), extract(page)
            if identify(text).code == language:
                pages.append(text)
                rests.append("\n".join(line for line in text.split("\n") if line.strip() not in main))
    return _long(pages), _long(rests)


def _long(texts: list[str]) -> list[str]:
    return [text for text in dict.fromkeys(map(tidy, texts)) if count_tokens(text) >= 100]


def junk(clean: list[str], language: str, count: int, seed: int = 1) -> dict[str, list[str]]:
    """Planted junk of each kind, `count` texts long, some of it from clean texts (which stay as they are)."""
    draw = random.Random(seed)
    space = "" if language == "zh" else " "
    bases = [text[:1500] for text in islice((text for text in clean if len(text) > 600), count)]
    lorem = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore. "
    keywords, links = KEYWORDS[language].split(";"), NAVIGATION[language].split(";")
    made = {
        "keyword spam": [space.join(draw.choices(keywords, k=200)) for _ in bases],
        "keyword list": ["，".join(draw.choices(keywords, k=150)) if language == "zh" else
                         ", ".join(draw.choices(keywords, k=150)) for _ in bases],
        "repeated paragraph": ["\n\n".join([base[:300]] * 8) for base in bases],
        "repeated sentence inside": [base[:700] + space + (base[700:760] + space) * 15 for base in bases],
        "link list": ["\n".join(draw.choices(links, k=120)) for _ in bases],
        "link line": [" | ".join(draw.choices(links, k=150)) for _ in bases],
        "OCR noise": [_noisy(base, draw, language, 0.25) for base in bases],
        "lorem ipsum": [base[:300] + "\n" + lorem * 6 for base in bases],
        "UTF-8 read as Latin-1": [base.encode().decode("latin-1") for base in bases],
        "UTF-8 read as GBK": [base.encode().decode("gb18030", "replace") for base in bases],
        "shuffled characters": [_shuffled(base, draw) for base in bases],
        "price table": ["\n".join(f"{draw.randrange(10**6)}\t{draw.random() * 999:.2f}\t{draw.randrange(99)}%"
                                  for _ in range(60)) for _ in bases]}
    return {kind: [tidy(text) for text in texts] for kind, texts in made.items()}


def _noisy(text: str, draw: random.Random, language: str, share: float) -> str:
    noise = "丨丿亅口囗匚卜厂冂^~|\\/*§¤#=_<>" if language == "zh" else "^~|\\/*§¤#=_<>l1I0|;:"
    return "".join(draw.choice(noise) if not character.isspace() and draw.random() < share else character
                   for character in text)


def _shuffled(text: str, draw: random.Random) -> str:
    letters = list(text)
    draw.shuffle(letters)
    return "".join(letters)

