import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InputError, SettingsError
from headwater.tokenizer import Tokenizer, stage
from headwater.tokenizer.stage import TokenizerSettings, _sampled, run

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


def write(folder, **columns):
    for split in ("train", "validation"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / split / "0.parquet")
    return folder


@pytest.mark.parametrize(("columns", "told"), [
    ({"text": ["a", None], "language": ["en", "en"]}, "a row without a value in the column 'text'"),
    ({"text": ["a", "b"], "language": ["en", None]}, "a row without a value in the column 'language'"),
    ({"text": ["a"]}, "no column 'language'"),
    ({"words": ["a"], "language": ["en"]}, "no column 'text'"),
])
def test_a_table_of_another_form_is_named(tmp_path, columns, told):
    with pytest.raises(InputError, match=told) as raised:
        run(TokenizerSettings(corpus=write(tmp_path / "c", **columns)), tmp_path / "out")
    assert "train/0.parquet" in str(raised.value)


def test_a_missing_validation_split_is_told_before_the_work(corpus, tmp_path, monkeypatch):
    (corpus / "validation" / "0.parquet").unlink()
    monkeypatch.setattr(stage, "count_words", None)
    with pytest.raises(InputError, match="split 'validation'"):
        run(TokenizerSettings(corpus=corpus), tmp_path / "out")


@pytest.mark.parametrize(("shares", "told"), [
    ({"fr": 1}, "no text in 'fr'"), ({"en": 0}, "every share is 0"), ({"en": 1e-300, "zh": 1}, "too far apart")])
def test_impossible_shares_are_named(corpus, tmp_path, shares, told):
    with pytest.raises(SettingsError, match=told):
        run(TokenizerSettings(corpus=corpus, vocab_size=512, shares=shares), tmp_path / "out")


@given(st.floats(0.01, 1), st.integers(1, 400))
def test_a_sample_takes_every_kind_of_document(keep, count):
    documents = [("text", ("en", "zh")[number % 2]) for number in range(count)]
    taken = list(_sampled(iter(documents), keep))
    assert taken[0] == documents[0]
    assert abs(len(taken) - keep * count) < 1 + 5 * (keep * (1 - keep) * count) ** 0.5 + 1
    if keep * count > 60:
        assert {"en", "zh"} == {language for _, language in taken}
    assert taken == list(_sampled(iter(documents), keep))
