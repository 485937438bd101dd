"""Breaks when a removal is held against another model's, or a model is not the same after a removal as before."""

from __future__ import annotations

import json
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headwater.studies.pruning import (
    HIGHEST,
    LOWEST,
    RANDOM,
    SPARED,
    PruningSettings,
    Result,
    beaten,
    drawn,
    rows_of,
    run,
    verdicts,
)


def result(seed: int, low: list[float], **changes) -> Result:
    values = {"identity": 0.0, "identity_first": True, "healed": 3.1, "longer": 2.9, "packed": {}, **changes}
    return Result(seed, [0.5, 0.1, 0.2, 0.3], 3.0, {LOWEST: low, HIGHEST: [6.0, 7.0]},
                  random=[[3.3, 3.4, 5.0], [3.5, 3.6, 8.0]], spared=[[3.1, 3.25, 3.3], [3.5, 3.5, 3.6]], **values)


GOOD = [result(seed, [3.2, 3.4 + seed / 100]) for seed in range(3)]
SETTINGS = PruningSettings(layers=4, most=2, healed=2, forms=())


def test_the_study_removes_by_every_order_heals_packs_and_goes_on(tmp_path, small, capsys):
    settings = PruningSettings.parse({**small, "seeds": 1, "layers": 4, "most": 2, "steps": 4, "draws": 2, "healed": 1,
                                      "healing_steps": 2, "calibration_rows": 4, "held_out_rows": 8,
                                      "forms": ["int8"]})
    found = run(tmp_path, settings)
    assert [one.seed for one in found] == [0]
    for one in found:
        assert len(one.influences) == 4
        assert {len(losses) for losses in one.orders.values()} == {2}
        assert [len(draws) for draws in (*one.random, *one.spared)] == [2] * 4
        assert len(one.packed["int8"]) == 3
        assert one.packed["int8"][0] == pytest.approx(one.whole, rel=1e-2)
        assert (one.identity, one.identity_first) == (0.0, True)
    assert "<svg" in (tmp_path / "pruning.svg").read_text()
    assert "measured anew" in capsys.readouterr().out
    again = run(tmp_path, settings)  # nothing is trained or removed again
    assert again == found
    assert len(json.loads((tmp_path / "pruning.json").read_text())["results"]) == 1


def test_claims_are_judged_model_by_model():
    assert {verdict.word for verdict in verdicts(GOOD, SETTINGS)} == {"shown"}
    bad = [one._replace(orders={LOWEST: one.orders[HIGHEST], HIGHEST: one.orders[LOWEST]}, identity=1e-9,
                        identity_first=False, healed=9.0 + seed / 100) for seed, one in enumerate(GOOD)]
    words = {verdict.claim: verdict.word for verdict in verdicts(bad, SETTINGS)}
    assert words.pop("what is left stays behind that whole model") == "shown"
    assert set(words.values()) == {"refuted"}


def test_what_healing_recovers_is_counted_against_the_whole_model_trained_as_long():
    healing = next(one for one in verdicts(GOOD, SETTINGS) if "recover" in one.claim)
    assert "(51% ± 1%)" in healing.claim  # .41 lost on average, .2 behind in the end
    assert healing.margin == pytest.approx(0.21)


def test_a_packed_form_may_cost_one_per_cent_more_without_blocks():
    packed = [one._replace(packed={"int8": [3.0, *(loss * 1.02 for loss in one.orders[LOWEST])]}) for one in GOOD]
    told = verdicts(packed, SETTINGS.model_copy(update={"forms": ("int8",)}))[-1]
    assert told.word == "refuted"
    assert "most 2.00%" in told.claim


def test_rows_are_what_removals_cost_and_random_ones_medians():
    rows = rows_of([GOOD[0], GOOD[1]._replace(whole=3.1)])
    assert [one.mean for one in rows[RANDOM]] == pytest.approx([0.35, 0.55])
    assert [one.mean for one in rows[SPARED]] == pytest.approx([0.2, 0.45])
    assert rows[LOWEST][1] == (pytest.approx(0.355), pytest.approx(0.045), 2)


def test_a_removal_is_held_against_the_others_alone():
    assert beaten(3.0, [3.0, 4.0, 2.0, 5.0]) == pytest.approx(2 / 3)
    assert beaten(3.0, [3.0]) == 0.5


@given(st.integers(2, 9), st.integers(1, 4), st.integers(1, 30), st.integers(0, 99))
def test_random_removals_differ_and_are_all_there_are_where_these_are_few(layers, count, draws, seed):
    count = min(count, layers - 1)
    found = drawn(range(1, layers + 1), count, draws, seed)
    assert len(found) == len(set(found)) == min(draws, comb(layers, count))
    assert all(len(set(one)) == count and min(one) > 0 and max(one) <= layers for one in found)


def test_a_quick_study_is_shorter_and_says_what_else_was_given():
    quick = PruningSettings.parse({"quick": True, "draws": 6})
    assert (quick.seeds, quick.draws, quick.most) == (1, 6, 4)
    assert quick.steps < PruningSettings().steps


@pytest.mark.parametrize(("values", "why"), [({"layers": 4, "most": 3}, "leave one, beside the first"),
                                             ({"most": 1, "healed": 2}, "2 blocks are removed before a training")])
def test_numbers_that_do_not_go_together_are_refused(values, why):
    with pytest.raises(ValidationError, match=why):
        PruningSettings(**values)
