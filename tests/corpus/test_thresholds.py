from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from headwater.corpus.thresholds import derive, main
from headwater.errors import InputError
from tests.corpus.conftest import chinese
from tests.corpus.test_quality import CLEAN


def test_limits_are_the_furthest_sources_quantile_rounded_outwards_to_one_digit() -> None:
    near = [replace(CLEAN["zh"], dup_lines=0.01, han=0.9) for _ in range(30)]
    far = [replace(CLEAN["zh"], dup_lines=number / 100, han=0.5 + number / 100) for number in range(21)]
    tiny = [replace(CLEAN["zh"], dup_lines=0.9)]
    found = {threshold.rule: threshold for threshold in derive({"near": near, "far": far, "tiny": tiny}, 0.95)}
    assert found["max_dup_lines"].limit == 0.2  # 0.19 upwards
    assert found["min_han"].limit == 0.5  # 0.51 downwards
    assert found["max_dup_lines"].typical == pytest.approx((0.01 + 0.10) / 2)
    assert found["max_dup_lines"].holds(far[20])
    assert not found["max_dup_lines"].holds(tiny[0])


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(InputError, match="20 clean texts"):
        derive({"one": [CLEAN["zh"]] * 19})


def test_command_prints_thresholds_and_held_out_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.dumps({"text": chinese(number, 300)}, ensure_ascii=False) for number in range(80)]
    (tmp_path / "books").mkdir()
    (tmp_path / "books/docs.jsonl").write_text("\n".join(rows), "utf-8")
    main([str(tmp_path), "--language", "zh"])
    printed = capsys.readouterr().out
    assert "min_function_words: " in printed
    assert "# books: " in printed
