import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.errors import InputError
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.stage import TokenizerSettings, run

SYLLABLES = ["ka", "lo", "mi", "ren", "tu", "vas", "eli", "ormo", "pen", "shu"]
ENGLISH = " ".join(f"{a}{b} is {len(a)} km from {b}{a}." for a in SYLLABLES for b in SYLLABLES)
TEXTS = [(ENGLISH, "en"), ("湖深一百二十米,湖水清澈。河长四百里,流入大海。" * 3, "zh")]


@pytest.fixture
def corpus(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        pq.write_table(pa.table({"text": [t for t, _ in TEXTS], "language": [l for _, l in TEXTS]}),
                       tmp_path / split / "0.parquet")
    return tmp_path


def test_the_stage_reports_compression_by_language(corpus, tmp_path):
    out = tmp_path / "out"
    figures = run(TokenizerSettings(corpus=corpus, vocab_size=512, max_piece_length=16), out)
    tokenizer = Tokenizer.load(out)
    table = json.loads((out / "compression.json").read_text())["languages"]
    for text, language in TEXTS:
        assert table[language]["tokens"] == len(tokenizer.encode(text))
        assert figures[f"text.{language}.tokens_per_character"] == len(tokenizer.encode(text)) / len(text)
        assert figures[f"text.{language}.bytes_per_token"] == len(text.encode()) / len(tokenizer.encode(text))
    assert json.loads((out / "tokenizer_config.json").read_text())["bos_token"] == "<s>"


def test_a_vocabulary_larger_than_the_corpus_can_fill_leaves_no_file(corpus, tmp_path):
    with pytest.raises(InputError, match="lower vocab_size"):
        run(TokenizerSettings(corpus=corpus, vocab_size=5000), tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer.model").exists()


def test_an_empty_corpus_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no document in its split 'train'"):
        run(TokenizerSettings(corpus=tmp_path, vocab_size=512), tmp_path)
