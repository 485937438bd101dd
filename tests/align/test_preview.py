"""Breaks when a pair is shown otherwise than it is read."""

import json

import pytest

from headwater.cli.main import main


def said(answer):
    return [{"role": "user", "content": "Lake [b]?"}, {"role": "assistant", "content": answer}]


@pytest.fixture
def file(tmp_path):
    rows = [{"chosen": said("same"), "rejected": said("same")},
            {"chosen": said("120 m."), "rejected": said("120"), "rating": "better", "rejected_safe": False}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "p.jsonl"


def test_a_pair_is_printed_with_the_place_of_its_rewards(file, small_model, capsys):
    assert main(["reward", "preview", str(file), f"model={small_model}"]) == 0
    assert capsys.readouterr().out.splitlines()[:5] == [
        f"{file}, line 2: pairs of dialogues (en), the chosen one is better, the rejected one is unsafe, "
        "written with headwater's template with tools",
        "chosen:", "<s><|user|>Lake [b]?<|end|><|assistant|>120 m.⟦<|end|>⟧",
        "rejected:", "<s><|user|>Lake [b]?<|end|><|assistant|>120⟦<|end|>⟧"]


@pytest.mark.parametrize(("words", "told"), [(["row=2"], "fewer than 2 pairs"), (["modl=x"], "did you mean 'model'?")])
def test_mistakes_are_told(file, small_model, capsys, words, told):
    assert main(["reward", "preview", str(file), f"model={small_model}", *words]) == 2
    assert told in capsys.readouterr().err
