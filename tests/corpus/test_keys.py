from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from headwater.corpus.commits import Pass, Record
from headwater.corpus.deduplication.keys import DOCUMENT_KEYS, SKETCH, Columns, band, document_keys, sentence_table
from headwater.corpus.deduplication.minhash import LooseBands, MinHashSettings, band_keys
from headwater.corpus.deduplication.repeated import SentenceSettings, sentence_keys
from headwater.storage import Store
from tests.corpus.conftest import chinese, english

SETTINGS = MinHashSettings(loose=LooseBands(bands=2))
TEXTS = [english(seed) if seed % 2 else chinese(seed) for seed in range(70)]


def stored(tables: list[pa.Table], folder: Path) -> Columns:
    commits = Pass(Store(folder), "pass")
    for number, table in enumerate(tables):
        commits.commit(Record(number, 0, table.num_rows, True), {DOCUMENT_KEYS: table})
    return Columns(folder / "flat", Store(folder), Pass(Store(folder), "pass").files(DOCUMENT_KEYS))


def test_keys_of_documents_come_back_a_column_at_a_time(tmp_path: Path) -> None:
    columns = stored([document_keys(TEXTS[:66], SETTINGS), document_keys(["", *TEXTS[66:]], SETTINGS)], tmp_path)
    whole = band_keys([*TEXTS[:66], "", *TEXTS[66:]], SETTINGS)
    for number in range(SETTINGS.all_bands):
        assert np.array_equal(columns[band(number)], whole.keys[:, number])
    assert np.array_equal(columns.sketches(np.array([68, 1, 66])), whole.sketch[[68, 1, 66]])


def test_keys_of_sentences_know_their_document(tmp_path: Path) -> None:
    settings = SentenceSettings()
    columns = stored([sentence_table(TEXTS, settings)], tmp_path)
    whole = sentence_keys(TEXTS, settings)
    assert np.array_equal(columns["document"], np.repeat(np.arange(70), np.diff(whole.bounds)))
    assert np.array_equal(columns["exact"], whole.exact)
    assert np.array_equal(columns[band(3)], whole.keys[:, 3])
    assert np.array_equal(columns.sketches(np.arange(5)), whole.sketch[:5])


@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_texts_without_tokens_have_keys_of_nothing(texts: list[str], tmp_path: Path) -> None:
    table = document_keys(texts, SETTINGS)
    assert table.num_rows == len(texts)
    assert not any(table[band(0)].to_pylist())
    assert SKETCH in table.schema.names
    assert sentence_table(texts, SentenceSettings()).num_rows == 0
    assert len(Columns(tmp_path / "flat", Store(tmp_path), [])["exact"]) == 0
