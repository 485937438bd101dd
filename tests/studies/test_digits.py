"""Breaks when an unseen sum was learnt from, the kinds of model see other problems, or a claim is read off noise."""

from __future__ import annotations

import json

import pytest

from headwater.errors import InputError
from headwater.studies.digits import CUTS, DigitSettings, Numbers, Result, Sums, problems, run, verdict

SMALL = DigitSettings(digits=2, problems=300, questions=20, seeds=2, hidden_size=16, layers=1, steps=75,
                      batch=4, threads=1)


def test_questions_are_never_learnt_from_and_sums_are_right():
    learnt, asked = problems(DigitSettings(digits=5, problems=5000))
    held = {pair for pairs in asked.values() for pair in pairs}
    assert not held & set(learnt)
    assert len(learnt) == 5000
    assert [len(pairs) for pairs in asked.values()] == [25, 200, 200, 200, 200]
    assert all(len(str(number)) == digits for digits, pairs in asked.items() for pair in pairs for number in pair)


@pytest.mark.parametrize(("cut", "pieces"), [("digits split", 5), ("up to three together", 2)])
def test_numbers_are_cut_as_said_and_no_two_alike(cut, pieces):
    numbers = Numbers(CUTS[cut])
    assert len(numbers.number(40712)) == pieces
    assert len({tuple(numbers.question(a, b)) for a in range(120) for b in range(120)}) == 120 * 120
    assert max(numbers.ids.values()) < numbers.size


def test_the_study_writes_its_results_and_reads_them_again(tmp_path, capsys):
    results = run(tmp_path, SMALL)
    assert len(results) == 2 * 2 * 2
    assert all(0 <= result.right <= 1 for result in results)
    assert "Right sums of unseen numbers" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "digits.svg").read_text()
    first = json.loads((tmp_path / "digits.json").read_text())
    run(tmp_path, SMALL)  # reads the trained models
    assert json.loads((tmp_path / "digits.json").read_text()) == first


def test_both_kinds_read_the_same_problems_at_every_step_and_are_asked_for_the_sum_alone():
    learnt, _ = problems(SMALL)
    spelled = []
    for cut in CUTS.values():
        numbers = Numbers(cut)
        texts = {index: piece for piece, index in numbers.ids.items()} | {2: "+", 3: "=", 1: "", 0: ""}
        sums = Sums(numbers, learnt, rows=7, seed=3)
        batches = [sums.batch(step) for step in range(2 * int(sums.batches_per_epoch))]
        spelled.append([["".join(texts[i] for i in row) for row in batch.tokens.tolist()] for batch in batches])
        for batch in batches:
            for tokens, targets in zip(batch.tokens.tolist(), batch.targets.tolist()):
                start, end = tokens.index(3), tokens.index(1)
                wanted = [-100] * start + tokens[start + 1:end + 1]
                assert targets == wanted + [-100] * (len(tokens) - len(wanted))
    assert spelled[0] == spelled[1]
    assert all(eval_sum(text) for text in spelled[0][0])


def eval_sum(text: str) -> bool:
    question, answer = text.split("=")
    return sum(map(int, question.split("+"))) == int(answer)


def test_another_study_is_not_taken_for_this_one(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps(DigitSettings().model_dump(mode="json")))
    with pytest.raises(InputError, match="another study, of other"):
        run(tmp_path, SMALL)


def test_a_difference_within_chance_is_no_result():
    def results(split, joined):
        return [Result(cut, seed, 1, value) for cut, values in zip(CUTS, (split, joined))
                for seed, value in enumerate(values)]

    assert verdict(results([0.9, 0.91, 0.92], [0.5, 0.52, 0.51])).word == "shown"
    assert verdict(results([0.5, 0.52, 0.51], [0.9, 0.91, 0.92])).word == "refuted"
    assert verdict(results([0.2, 0.9, 0.5], [0.4, 0.8, 0.3])).word == "neither shown nor refuted"
    assert "not tested" in verdict(results([0.9], [0.1])).word
