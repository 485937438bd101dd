from __future__ import annotations

import json
from pathlib import Path

import pytest

from headwater.cli.main import main
from headwater.corpus.explain import ExplainSettings, explain
from headwater.corpus.stage import CorpusSettings, run
from headwater.errors import InputError
from tests.corpus.conftest import PLAIN, english, page

LETTER = ("The river rises in the hills and runs through the old town to the sea, and the mill by the bridge still "
          "turns. "
          "Write to jane.roe@rivermill.org about the water, or ring +44 20 7946 0958 before the boats have gone. ")


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_every_step_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "letter.html"
    file.write_bytes(page(LETTER * 4 + english(3)))
    assert main(["corpus", "explain", str(file), "quality=null"]) == 0
    shown = told(capsys)
    for part in ("read", "utf-8", "language", "en 0.9", "machine text", "toxicity", "masked: email 4, phone 4",
                 "<EMAIL>", "kept"):
        assert part in shown
    assert "jane.roe" not in shown


def test_a_removed_document_is_still_explained_to_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "short.txt"
    file.write_text("Much too short, but write to a.b@rivermill.org now.")
    explain(file, ExplainSettings.parse({"quality": None}))
    shown = told(capsys)
    assert "removed by length: too short" in shown
    assert "masked: email 1" in shown


def test_copies_are_sought_in_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": english(seed, 300), "url": f"http://a/{seed}"}) + "\n"
                            for seed in range(9)))
    run(CorpusSettings.parse({"sources": [{"path": rows}], "validation_share": 0, **PLAIN}), tmp_path / "corpus")
    again = tmp_path / "again.txt"
    settings = ExplainSettings.parse(PLAIN | {"against": tmp_path / "corpus"})
    again.write_text(english(4, 300).upper())
    explain(again, settings)
    assert "exact copy" in (shown := told(capsys))
    assert "http://a/4" in shown
    again.write_text(english(5, 300) + " And a new ending that the other has not.")
    explain(again, settings)
    assert "near copy" in (shown := told(capsys))
    assert "http://a/5" in shown
    again.write_text(english(77, 300))
    explain(again, settings)
    assert "no copy there" in (shown := told(capsys))
    assert "near copy" not in shown


def test_a_document_is_no_copy_of_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a/one", 1), ("b/one", 2), ("c/two", 3), ("c/three", 3)):
        (tmp_path / "pages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pages" / f"{name}.txt").write_text(english(seed, 300))
    run(CorpusSettings.parse({"sources": [{"path": tmp_path / "pages"}], "validation_share": 0, **PLAIN}),
        tmp_path / "corpus")
    settings = ExplainSettings.parse(PLAIN | {"against": tmp_path / "corpus"})
    explain(tmp_path / "pages" / "a" / "one.txt", settings)
    assert "no copy there" in told(capsys)
    explain(tmp_path / "pages" / "c" / "two.txt", settings)
    assert "copy of pages/c/three.txt" in told(capsys)


def test_steps_among_documents_are_not_judged_without_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                               ) -> None:
    (tmp_path / "a.txt").write_text(english(1))
    explain(tmp_path / "a.txt", ExplainSettings.parse({"near_duplicates": None, "mix": {}}))
    shown = told(capsys)
    assert [shown.count(step) for step in ("exact duplicates", "repeated sentences", "mix", "near duplicates")] == [
        1, 1, 1, 0]
    assert shown.count("not judged") == 3


def test_code_keeps_its_indentation_and_a_named_format_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                             ) -> None:
    (tmp_path / "page.php").write_bytes(page(f"{english(1)}</p><pre>def f():\n    return 1</pre><p>{english(2)}"))
    explain(tmp_path / "page.php", ExplainSettings.parse(PLAIN | {"format": "html"}))
    assert "     return 1" in told(capsys)
    with pytest.raises(InputError, match="this is a folder"):
        explain(tmp_path, ExplainSettings())


def test_a_document_beyond_the_last_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    with pytest.raises(InputError, match="there is no document 2"):
        explain(tmp_path / "a.txt", ExplainSettings(document=2))
    with pytest.raises(InputError, match="no such file"):
        explain(tmp_path / "b.txt", ExplainSettings())
