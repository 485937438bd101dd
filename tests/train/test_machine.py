"""What a run chose by measurement stays with it."""

from headwater.artifacts import read_json, write_json
from headwater.train import TrainerSettings, machine
from headwater.train.machine import choose


def test_the_first_choice_is_kept_whatever_the_machine_says_later(tmp_path, monkeypatch):
    path, settings = tmp_path / "machine.json", TrainerSettings(steps=1, device="cpu")
    monkeypatch.setattr(machine.hardware, "matmul_peaks", lambda *_: {"float32": 1e11, "bfloat16": 3e11})
    monkeypatch.setattr(machine.hardware, "best_precision", lambda *_: "bfloat16")
    monkeypatch.setattr(machine.hardware, "has_compiler", lambda: True)
    long = 1e11 * machine.COMPILE_WORTH_SECONDS * 2
    first = choose(path, settings, long)
    assert (first.precision, first.compile, first.matmul_flops) == ("bfloat16", True, 3e11)
    monkeypatch.setattr(machine.hardware, "best_precision", lambda *_: "float32")
    assert choose(path, settings, 0.0) == first
    assert choose(tmp_path / "other.json", settings, 0.0)[1:3] == ("float32", False)


def test_other_processes_on_the_machine_share_its_cores_and_other_kernels_are_said(tmp_path, monkeypatch, capsys):
    path, settings = tmp_path / "machine.json", TrainerSettings(steps=1, device="cpu", precision="float32")
    monkeypatch.setattr(machine.hardware, "matmul_peaks", lambda *_: {"float32": 1e11, "bfloat16": 3e11})
    first = choose(path, settings, 0.0)
    write_json(path, {**read_json(path), "kernels": "others"})
    monkeypatch.setattr(machine, "local_ranks", lambda: 2)
    monkeypatch.setattr(machine.hardware, "cores", lambda: 8)
    again = choose(path, settings, 0.0)
    assert again == first._replace(kernels="others", threads=4, matmul_flops=first.matmul_flops / 2)
    assert "began with the others kernels" in capsys.readouterr().err


def test_what_the_user_asks_for_later_goes_before_what_was_chosen(tmp_path, monkeypatch, capsys):
    path, settings = tmp_path / "machine.json", TrainerSettings(steps=1, device="cpu", precision="float32")
    monkeypatch.setattr(machine.hardware, "matmul_peaks", lambda *_: {"float32": 1e11, "bfloat16": 3e11})
    first = choose(path, settings, 0.0)
    asked = settings.model_copy(update={"threads": 1, "precision": "bfloat16"})
    assert choose(path, asked, 1e30) == first._replace(threads=1, precision="bfloat16", matmul_flops=3e11)
    assert "began with other precision and threads" in capsys.readouterr().err
    assert choose(path, settings, 1e30) == first
