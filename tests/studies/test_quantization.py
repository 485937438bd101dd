import json

import pytest

from headwater.errors import InputError
from headwater.studies.quantization import QuantizationSettings, run


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for name in ("one", "two"):
        (folder / f"{name}.txt").write_text(f"The river Velna is 482 km long, says {name}. 河流入奥鲁马湖。\n" * 60)
    return folder


def test_every_form_is_measured_and_nothing_twice(small_model, texts, tmp_path, capsys):
    settings = QuantizationSettings(model=small_model, text=texts / "one.txt", held_out=texts / "two.txt",
                                    groups=[32, 64], tokens=256, measured=256, length=32, seeds=2)
    found = run(tmp_path, settings)
    assert [(one.name, one.group, len(one.losses)) for one in found] == [
        ("float32", 0, 1), ("int8", 0, 1), ("nf4", 64, 1),
        *((name, group, 2 if name in ("gptq", "awq") else 1) for group in (32, 64)
          for name in ("rtn, symmetric", "rtn", "gptq", "awq"))]
    bits = {(one.name, one.group): one.bits for one in found}
    assert bits["rtn", 32] == pytest.approx(4 + 20 / 32 + 8 * 16 * 7 / 31_000, abs=0.03)  # and 16 bytes a matrix
    assert bits["int8", 0] == pytest.approx(8 + 32 / 68, abs=0.1)
    assert all(one.losses[0] != found[0].losses[0] for one in found[1:])
    assert "perplexity" in capsys.readouterr().out
    told = json.loads((tmp_path / "quantization.json").read_text())
    assert len(told["verdicts"]) == 1 + 2 * 6 + 1 + 1
    by_samples = [any(f"{name} " in one["claim"] for name in ("gptq", "awq")) for one in told["verdicts"]]
    assert [("with this model" in one["word"]) for one in told["verdicts"]] == [not one for one in by_samples]
    assert run(tmp_path, settings) == found


def test_a_file_needs_another_to_measure_on(small_model, texts, tmp_path):
    with pytest.raises(InputError, match="no split to take losses on"):
        run(tmp_path, QuantizationSettings(model=small_model, text=texts / "one.txt", length=32))
