from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.corpus import steps
from headwater.corpus.funnel import funnel_table
from headwater.corpus.judging.length import count_tokens
from headwater.corpus.passes import engine, examining
from headwater.corpus.passes.writing import KEPT, REMOVED
from headwater.corpus.reading import units
from headwater.corpus.reading.sources import list_shards
from headwater.corpus.stage import CorpusSettings, run
from headwater.corpus.steps import Examiner, content_id
from headwater.documents import corpus_files, read_documents
from headwater.errors import HeadwaterError, InputError, SettingsError
from headwater.storage import Store
from tests.corpus.conftest import PLAIN, chinese, english, page

Maker = Callable[[int], Path]


def settings(*paths: Path, **options: Any) -> CorpusSettings:
    return CorpusSettings.parse({"sources": [{"path": path} for path in paths], **PLAIN, **options})


def rows(out: Path, split: str) -> list[dict[str, Any]]:
    return [row for part in sorted((out / split).glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def content(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def test_every_document_ends_in_one_place_with_its_provenance(tmp_path: Path, pages: Maker) -> None:
    folder, out = pages(30), tmp_path / "out"
    (folder / "0000 copy.html").write_bytes(page(english(0)))
    (folder / "0002 near.html").write_bytes(page(english(2, 700) + " One more sentence here."))
    (folder / "0002 near too.html").write_bytes(page(english(2, 700) + " Another ending of it."))
    (folder / "bad.html").write_bytes(b"%PDF-1.4 binary")
    (folder / "french.html").write_bytes(page("Le fleuve traverse la ville et rejoint la mer au sud. " * 12))
    figures = run(settings(folder, validation_share=0.2), out)
    kept, removed = rows(out, "train") + rows(out, "validation"), rows(out, "removed")
    assert sorted(row["url"] for row in kept + removed) == sorted(f"pages/{file.name}" for file in folder.iterdir())
    reasons = {row["url"].removeprefix("pages/"): (row["step"], row["reason"]) for row in removed}
    assert reasons == {"0000.html": ("exact_duplicates", "exact copy"), "bad.html": ("read", "not HTML"),
                       "0002 near too.html": ("near_duplicates", "near copy"),
                       "french.html": ("language", "other language")}
    original = next(row for row in kept if row["url"] == "pages/0000 copy.html")
    assert next(row["detail"] for row in removed if row["url"] == "pages/0000.html") == (
        "copy of pages/0000 copy.html")
    assert original["source"] == "pages"
    assert figures["documents"] == len(kept) + len(removed)
    assert figures["kept"] == len(kept)
    assert sum(value for name, value in figures.items() if name.startswith("removed.")) == len(removed)
    assert figures["characters"] == sum(len(row["text"]) for row in kept)
    assert pq.read_schema(next((out / "train").iterdir())).equals(KEPT)
    assert pq.read_schema(next((out / "removed").iterdir())).equals(REMOVED)
    assert not (out / ".work").exists()


def test_copy_of_a_document_that_is_itself_a_near_copy_names_the_kept_one(tmp_path: Path) -> None:
    long = english(2, 700)
    texts = [long + " First ending of it.", long + " Second ending.", long + "  SECOND ending."]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    run(settings(tmp_path), tmp_path / "out")
    (kept,) = rows(tmp_path / "out", "train")
    assert kept["url"] == f"{tmp_path.name}/rows.jsonl#1"
    assert [row["step"] for row in rows(tmp_path / "out", "removed")] == ["exact_duplicates", "near_duplicates"]
    assert all(f"copy of {kept['url']}" in row["detail"] for row in rows(tmp_path / "out", "removed"))


def test_funnel_adds_up_step_by_step_and_per_language(tmp_path: Path, pages: Maker) -> None:
    folder, out = pages(24), tmp_path / "out"
    (folder / "short.html").write_bytes(page("Much too short a page."))
    (folder / "empty.html").write_bytes(b"")
    run(settings(folder), out)
    values = json.loads((out / "funnel.json").read_text("utf-8"))
    steps = values["steps"]
    assert [step["step"] for step in steps] == ["read", "extract", "language", "length", "exact_duplicates",
                                                "near_duplicates"]
    for before, after in pairwise(steps):
        assert before["documents_out"] == after["documents_in"]
        assert before["bytes_out"] == after["bytes_in"]
        assert before["tokens_out"] == after["tokens_in"]
    for step in steps:
        assert step["documents_in"] - step["documents_out"] == sum(step["reasons"].values())
        for name in ("documents_in", "documents_out", "bytes_in", "bytes_out", "tokens_in", "tokens_out"):
            assert step[name] == sum(part[name] for part in step["languages"].values())
    assert steps[3]["reasons"] == {"too short": 1}
    kept = values["kept"]
    assert steps[-1]["documents_out"] == kept["train"]["documents"] + kept["validation"]["documents"] == 24
    assert funnel_table(values).row_count == len(steps) + 2


def test_what_a_step_cuts_is_counted_at_that_step(tmp_path: Path) -> None:
    texts = [f"{english(seed, 200)} {NOTICE} {english(seed + 100, 60)}".replace("near", f"near joe{seed}@mill.org", 1)
             for seed in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    options = {"repeated_sentences": {"documents": 4, "similarity": 1}, "private_data": {}, "validation_share": 0}
    run(settings(tmp_path, **options), tmp_path / "out")
    steps = {step["step"]: step for step in json.loads((tmp_path / "out/funnel.json").read_text("utf-8"))["steps"]}
    whole = sum(count_tokens(text) for text in texts)
    assert steps["extract"]["tokens_out"] == steps["private_data"]["tokens_in"] == whole
    assert steps["private_data"]["bytes_out"] < steps["private_data"]["bytes_in"]
    assert steps["near_duplicates"]["tokens_out"] == steps["private_data"]["tokens_out"] < whole
    cut = steps["repeated_sentences"]
    assert cut["tokens_in"] - cut["tokens_out"] == 8 * count_tokens(NOTICE)
    assert cut["tokens_out"] == sum(row["tokens"] for row in rows(tmp_path / "out", "train"))


def test_validation_has_each_language_and_depends_on_the_text_alone(tmp_path: Path, pages: Maker) -> None:
    folder = pages(60)
    run(settings(folder, validation_share=0.0001), tmp_path / "tiny")
    assert sorted(row["language"] for row in rows(tmp_path / "tiny", "validation")) == ["en", "zh"]
    run(settings(folder, validation_share=0.3), tmp_path / "all")
    for file in sorted(folder.iterdir())[::2][:10]:
        file.unlink()
    run(settings(folder, validation_share=0.3), tmp_path / "fewer")
    held = {row["id"] for row in rows(tmp_path / "all", "validation")}
    assert {row["id"] for row in rows(tmp_path / "fewer", "validation")} <= held
    assert 8 <= len(held) <= 30
    run(settings(folder, validation_share=0), tmp_path / "none")
    assert rows(tmp_path / "none", "validation") == []


def test_documents_come_in_order_and_stream_through_the_reading_api(tmp_path: Path, pages: Maker) -> None:
    folder, out = pages(12), tmp_path / "out"
    run(settings(folder, validation_share=0), out)
    columns = ["text", "url", "language"]
    found = list(read_documents(corpus_files(out, "train"), columns))
    assert [document["url"] for document in found] == [f"pages/{number:04}.html" for number in range(12)]
    assert english(0) in found[0]["text"]
    assert {document["language"] for document in found} == {"en", "zh"}
    with pytest.raises(InputError, match="no document in its split 'test'"):
        corpus_files(out, "test")
    next((out / "train").iterdir()).write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot be read"):
        list(read_documents(corpus_files(out, "train"), columns))


def test_steps_switched_off_keep_what_they_would_remove(tmp_path: Path, pages: Maker) -> None:
    folder = pages(4)
    (folder / "copy.html").write_bytes(page(english(0)))
    (folder / "short.html").write_bytes(page("Ein kurzer Satz über den Fluss und die Stadt."))
    off = {"languages": None, "min_tokens": 0, "exact_duplicates": False, "near_duplicates": None}
    figures = run(settings(folder, **off), tmp_path / "off")
    assert (figures["documents"], figures["kept"]) == (6, 6)
    for step, on in (("exact_duplicates", True), ("near_duplicates", {})):
        assert run(settings(folder, **off | {step: on}), tmp_path / step)[f"removed.{step}"] == 1


def test_sources_of_several_formats_keep_their_names_and_licences(tmp_path: Path, pages: Maker) -> None:
    folder = pages(3)
    lines = [{"text": chinese(100), "url": "http://a.b/c"}, {"no": 1}]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    both = CorpusSettings.parse({"sources": [{"path": folder, "name": "site", "licence": "CC0-1.0"},
                                             {"path": tmp_path / "rows.jsonl.gz"}], "validation_share": 0} | PLAIN)
    run(both, tmp_path / "out")
    kept = rows(tmp_path / "out", "train")
    assert [(row["source"], row["licence"]) for row in kept] == [("site", "CC0-1.0")] * 3 + [("rows.jsonl.gz", None)]
    assert kept[-1]["url"] == "http://a.b/c"
    (lost,) = rows(tmp_path / "out", "removed")
    assert (lost["step"], lost["reason"]) == ("read", "row has no text")
    assert "line 2" in lost["detail"]


def test_worker_processes_do_not_change_a_byte(tmp_path: Path, pages: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pages(40)
    monkeypatch.setattr(units, "SMALLEST", 2000)
    run(settings(folder), tmp_path / "one")
    monkeypatch.setattr(engine, "PROCESSES_FROM", 0)
    run(settings(folder), tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_parts_of_a_unit_hold_the_same_documents_as_the_whole(
        tmp_path: Path, pages: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pages(10)
    run(settings(folder), tmp_path / "one")
    monkeypatch.setattr(examining, "PART_DOCUMENTS", 3)
    run(settings(folder), tmp_path / "two")
    assert len(list((tmp_path / "two/train").iterdir())) == 4
    for split in ("train", "validation", "removed"):
        assert rows(tmp_path / "one", split) == rows(tmp_path / "two", split)


CHILD = """
import json, sys
from pathlib import Path
from headwater.corpus.reading import units
from headwater.corpus import steps
from headwater.corpus.stage import CorpusSettings, run
from headwater.corpus.steps import Examiner, content_id
units.SMALLEST, units.WANTED = 1, 60
run(CorpusSettings.parse({"sources": [{"path": sys.argv[1]}], **json.loads(sys.argv[3])}), Path(sys.argv[2]))
"""


def child(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(out), json.dumps(PLAIN)],
                            env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
                            stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("when", [".work/examined/records/000005*", ".work/written/records/000005*"])
def test_killed_run_goes_on_and_writes_the_same_bytes(
        tmp_path: Path, pages: Maker, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    folder, out = pages(120), tmp_path / "out"
    process = child(folder, out)
    deadline = time.monotonic() + 60
    while not list(out.glob(when)) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {file.name for file in (out / ".work/examined/records").iterdir() if not file.name.startswith(".")}
    assert 4 <= len(done) <= 60
    monkeypatch.setattr(units, "SMALLEST", 1)
    monkeypatch.setattr(units, "WANTED", 60)
    seen: list[str] = []
    examine = Examiner.examine
    monkeypatch.setattr(Examiner, "examine", lambda self, raw: seen.append(raw.url) or examine(self, raw))
    run(settings(folder), out)
    assert len(seen) <= 120 - len(done), "documents of finished units were examined again"
    run(settings(folder), tmp_path / "undisturbed")
    assert content(out) == content(tmp_path / "undisturbed")


def test_work_of_other_settings_or_files_is_not_reused(tmp_path: Path, pages: Maker) -> None:
    folder, out = pages(6), tmp_path / "out"
    def examine(**options: Any) -> None:
        chosen = settings(folder, **options)
        examining.examine_units(units.plan_units(list_shards(chosen.sources)), chosen, chosen.engine, Store(out))

    examine(min_tokens=100_000)
    assert run(settings(folder), out)["kept"] == 6
    examine()
    (folder / "0000.html").write_bytes(page(english(500)))
    run(settings(folder, validation_share=0), out)
    assert english(500) in rows(out, "train")[0]["text"]


def test_empty_corpus_says_at_which_step_the_documents_went(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/a.html").write_bytes(page("Der Fluss fließt durch die alte Stadt bis zum Meer. " * 12))
    (tmp_path / "pages/b.html").write_bytes(b"\x00" * 3000)
    with pytest.raises(InputError) as caught:
        run(settings(tmp_path / "pages"), tmp_path / "out")
    assert caught.value.exit_code == 2
    assert "no document is left of 2" in str(caught.value)
    assert re.search(r"read removed 1 \(not HTML\); language removed 1 \(other language\)", str(caught.value))
    assert len(rows(tmp_path / "out", "removed")) == 2


def test_empty_file_and_empty_parquet_hold_no_document_at_all(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("\n")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="no document at all"):
        run(settings(tmp_path), tmp_path / "out")


def test_mistakes_in_sources_are_refused_before_anything_is_written(tmp_path: Path, pages: Maker) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "rows.parquet")
    for bad in (tmp_path / "nowhere", tmp_path / "rows.parquet"):
        with pytest.raises(InputError):
            run(settings(pages(2) if not (tmp_path / "pages").exists() else tmp_path / "pages", bad), tmp_path / "out")
        assert not (tmp_path / "out").exists()
    with pytest.raises(SettingsError, match=r"did you mean 'path'|unknown setting"):
        CorpusSettings.parse({"sources": [{"pth": "x"}]})


def test_real_pages_run_end_to_end(tmp_path: Path, shared: Path) -> None:
    figures = run(settings(shared / "data/html/gne_news_zh"), tmp_path / "out")
    assert figures["documents"] == 31
    assert figures["removed.read"] == 0
    assert figures["kept.zh"] >= 15


NOTICE = "Sign up today and get our free walking guide sent straight to your inbox every week."


def test_sentences_that_many_documents_share_are_cut_from_all_of_them(tmp_path: Path) -> None:
    texts = [f"{english(seed, 200)} {NOTICE} {english(seed + 100, 60)}" for seed in range(8)]
    texts.append(f"{NOTICE} " * 20)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    options = {"repeated_sentences": {"documents": 4, "similarity": 1}, "near_duplicates": None, "validation_share": 0}
    run(settings(tmp_path, **options), tmp_path / "out")
    kept = rows(tmp_path / "out", "train")
    assert len(kept) == 8
    for row in kept:
        assert NOTICE not in row["text"]
        assert row["tokens"] == count_tokens(row["text"])
        assert row["id"] == content_id(row["text"]).hex()
    (removed,) = rows(tmp_path / "out", "removed")
    assert (removed["step"], removed["reason"]) == ("repeated_sentences", "too short without repeated sentences")
    values = json.loads((tmp_path / "out/funnel.json").read_text("utf-8"))
    step = values["steps"][-1]
    assert step["changes"] == {"sentences cut": 8 + 20, "documents shortened": 9}
    shown = values["examples"]["repeated_sentences"]
    assert {"sentence cut", "too short without repeated sentences"} == {one["reason"] for one in shown}
    assert any("in 9 documents" in one["detail"] for one in shown)


def test_questions_of_a_benchmark_are_removed_or_cut_and_told(tmp_path: Path) -> None:
    question = "Which river carries the most water to the northern sea in an ordinary spring after heavy snow?"
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/rivers_test.csv").write_text(f'"{question}",Velna,Taro,Dovan,Sani,A\n')
    (tmp_path / "rows").mkdir()
    texts = [english(1, 200), f"{english(2, 200)}\n{question.upper()} a) Velna\n{english(3, 200)}"]
    (tmp_path / "rows/rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for action, kept in (("drop", 1), ("cut", 2)):
        benchmark = {"benchmarks": [{"path": tmp_path / "bench"}], "action": action, "margin": 0}
        figures = run(settings(tmp_path / "rows", contamination=benchmark, validation_share=0), tmp_path / action)
        assert figures["kept"] == kept
        assert all(question.upper() not in row["text"] for row in rows(tmp_path / action, "train"))
    (removed,) = rows(tmp_path / "drop", "removed")
    assert removed["step"] == "contamination"
    assert "rivers_test.csv" in removed["detail"]


def test_a_mix_repeats_and_leaves_out_and_readers_see_it(tmp_path: Path, pages: Maker) -> None:
    folder = pages(40)
    mix = {"by": "language", "shares": {"en": 3, "zh": 1}, "tokens": 10_000}
    figures = run(settings(folder, mix=mix, validation_share=0), tmp_path / "out")
    found = list(read_documents(corpus_files(tmp_path / "out", "train"), ["text", "language"]))
    times = Counter(row["text"] for row in found)
    english_times = {times[row["text"]] for row in found if row["language"] == "en"}
    assert english_times <= {2, 3}
    assert max(times[row["text"]] for row in found if row["language"] == "zh") == 1
    assert figures["removed.mix"] == 40 - len(times) > 0
    first = [row["text"] for row in found[:len(times)]]
    assert len(set(first)) == len(first), "a second copy comes before another document's first"
    with pytest.raises(SettingsError, match="no documents of 'fr'"):
        run(settings(folder, mix={"by": "language", "shares": {"fr": 1}}), tmp_path / "bad")


def test_private_data_is_masked_and_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": f"{english(1)} Write to jane.roe@rivermill.org please."}))
    run(settings(tmp_path, private_data={}, validation_share=0), tmp_path / "out")
    (kept,) = rows(tmp_path / "out", "train")
    assert "Write to <EMAIL> please." in kept["text"]
    values = json.loads((tmp_path / "out/funnel.json").read_text("utf-8"))
    assert next(step for step in values["steps"] if step["step"] == "private_data")["changes"] == {"email masked": 1}


def test_every_sentence_of_a_kept_document_has_its_score(tmp_path: Path, pages: Maker) -> None:
    run(settings(pages(4), validation_share=0), tmp_path / "out")
    for row in rows(tmp_path / "out", "train"):
        assert 0 <= row["score"] <= 1
        assert len(row["sentences"]) > 5
        assert all(0 <= one["score"] <= 1 and one["start"] < one["end"] <= len(row["text"]) for one in row["sentences"])


def test_a_store_that_holds_another_corpus_is_refused(tmp_path: Path, pages: Maker) -> None:
    folder, store = pages(4), tmp_path / "store"
    run(settings(folder, store=str(store), validation_share=0), tmp_path / "one")
    run(settings(folder, store=str(store), validation_share=0, min_tokens=101), tmp_path / "one")
    with pytest.raises(InputError, match=r"this store holds the corpus of .*one"):
        run(settings(folder, store=str(store)), tmp_path / "two")
    assert len(list(read_documents(corpus_files(tmp_path / "one", "train"), ["text"]))) == 4


def test_a_service_that_fails_stops_the_run_and_removes_nothing(
        tmp_path: Path, pages: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: object) -> None:
        raise HeadwaterError("the service does not answer", fix="try again")

    monkeypatch.setattr(steps, "find_private", fails)
    with pytest.raises(HeadwaterError, match="does not answer"):
        run(settings(pages(4), private_data={}), tmp_path / "out")
    assert not (tmp_path / "out/removed").exists()
