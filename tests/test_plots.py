"""Breaks when a plot differs from run to run or loses what it should show."""

from __future__ import annotations

from headwater.plots import Line, Panel, bars, panels


def test_the_same_values_give_the_same_bytes_and_all_names():
    panel = Panel([Line("measured", [1, 10, 100], [3.0, 2.0, 1.5], [0.1, 0.1, 0.2]), Line("law", [1, 100], [3, 1.4],
                  points=False)], "tokens", "loss", "a law", log_x=True, log_y=True,
                  band=([1, 100], [2.9, 1.3], [3.1, 1.6]))
    drawn = panels([panel, panel])
    assert drawn == panels([panel, panel])
    assert all(word in drawn for word in ("measured", "law", "tokens", "loss", "a law"))


def test_bars_show_every_quantity_and_name():
    drawn = bars({"loss": {"MHA": (2.0, 0.1), "MQA": (2.1, 0.0)}, "bytes": {"MHA": (64, 0), "MQA": (8, 0)}},
                 title="heads")
    assert all(word in drawn for word in ("loss", "bytes", "MHA", "MQA", "heads"))


def test_a_logarithmic_axis_of_less_than_a_decade_has_labels():
    drawn = panels([Panel([Line("perplexity", [1, 2], [88.0, 160.0])], "x", "y", "title", log_y=True)])
    assert sum(f">{label}</text>" in drawn for label in (100, 120, 140, 160)) > 1


def test_shares_on_a_logarithmic_axis_are_labelled_plainly():
    drawn = panels([Panel([Line("weight", [1, 2], [0.1, 0.8])], "x", "y", "title", log_y=True)])
    assert ">0.2</text>" in drawn
    assert " m</text>" not in drawn


def test_what_points_are_means_of_is_behind_them_in_their_colour():
    panel = Panel([Line("start", [1], [1]), Line("mean", [2], [2], [0.1], x_errors=[0.2], cloud=[(1.5, 2), (2.5, 2)])],
                  "x", "y", "title")
    drawn = panels([panel])
    assert drawn.count('style="fill: #c4553b; fill-opacity: 0.5"') == 2
