"""Breaks when held-out rows are learnt from, users' mistakes give tracebacks, or the same rows give other weights."""

from __future__ import annotations

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.corpus.classifying.labelled import Columns, read_labelled
from headwater.corpus.classifying.linear import Classifier
from headwater.corpus.classifying.ngrams import FeatureSettings
from headwater.corpus.classifying.training import TrainSettings, train_classifier
from headwater.errors import InputError

WORDS = ["river", "water", "city", "bridge", "mountain", "year", "people", "valley", "lake", "source", "stone"]


def rows(count: int = 400, **more: str) -> list[dict]:
    rng = random.Random(3)
    return [{"text": " ".join(rng.choices(WORDS, k=14)) + f" {'alas' if number % 2 else 'hurrah'} {number}",
             "label": number % 2, "lang": "en", **more} for number in range(count)]


def jsonl(path, values):
    path.write_text("".join(json.dumps(row) + "\n" for row in values))
    return path


def settings(path, **more) -> TrainSettings:
    return TrainSettings(data=[path], features=FeatureSettings(characters=2, words=1, bits=12), **more)


def test_training_writes_weights_figures_and_card(tmp_path):
    figures = train_classifier(settings(jsonl(tmp_path / "a.jsonl", rows()), name="mood", limits="Invented rows."),
                               tmp_path / "out")
    assert figures["languages"]["en"]["auc"] > 0.99
    assert json.loads((tmp_path / "out" / "mood.json").read_text())["languages"] == figures["languages"]
    assert "Invented rows." in (tmp_path / "out" / "mood.md").read_text()
    one = Classifier.load(tmp_path / "out")
    assert one.probability(["river alas"])[0] > 0.5 > one.probability(["river hurrah"])[0]
    assert one.threshold("en") == figures["languages"]["en"]["threshold"]


def test_the_same_rows_give_the_same_weights(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", rows())
    for name in ("one", "two"):
        train_classifier(settings(path), tmp_path / name)
    assert (tmp_path / "one" / "classifier.safetensors").read_bytes() == (
        tmp_path / "two" / "classifier.safetensors").read_bytes()


def test_a_group_falls_on_one_side_and_a_source_can_be_only_judged(tmp_path):
    values = [*rows(), *rows(60, source="judged", group="all")]
    figures = train_classifier(settings(jsonl(tmp_path / "a.jsonl", values), only_held=["judged"]), tmp_path / "out")
    assert figures["sources"]["judged.en"]["learnt"] == 0
    groups = [row.draw() for row in read_labelled(jsonl(tmp_path / "b.jsonl", rows(20, group="g")), Columns())]
    assert len(set(groups)) == 1


def test_csv_and_parquet_read_like_jsonl(tmp_path):
    values = rows(10)
    with open(tmp_path / "a.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label", "lang"])
        writer.writeheader()
        writer.writerows(values)
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "a.parquet")
    jsonl(tmp_path / "a.jsonl", values)
    found = [list(read_labelled(tmp_path / f"a.{kind}", Columns())) for kind in ("jsonl", "csv", "parquet")]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("row", "message"), [
    ({"txt": "a", "label": 1}, "no column 'text'"), ({"text": "a", "class": 1}, "no column 'label'"),
    ({"text": "a b", "label": "maybe", "lang": "en"}, "expected 1 or 0"), ({"text": 7, "label": 1}, "not text"),
])
def test_wrong_columns_and_labels_are_named(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        train_classifier(settings(jsonl(tmp_path / "a.jsonl", [row])), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_column_that_was_named_must_be_there(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "river", "label": 1, "lang": "en"}])
    assert list(read_labelled(path, Columns()))
    with pytest.raises(InputError, match=r"no column 'idiom'(.|\n)*set columns\.language"):
        list(read_labelled(path, Columns(language="idiom")))


def test_one_class_alone_is_refused(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [row | {"label": 0} for row in rows()])
    with pytest.raises(InputError, match="0 positive"):
        train_classifier(settings(path), tmp_path / "out")


@pytest.mark.parametrize("name", ["missing.jsonl", "rows.txt"])
def test_files_that_cannot_be_rows_are_refused(tmp_path, name):
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(InputError):
        train_classifier(settings(tmp_path / name), tmp_path / "out")
