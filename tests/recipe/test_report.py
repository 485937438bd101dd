import json
import re
from html.parser import HTMLParser

import pytest

from headwater.errors import InputError
from headwater.recipe import plots, sections
from headwater.recipe.manifest import read_manifest
from headwater.recipe.report import render, write_report

STEP = {"documents_in": 9, "documents_out": 6, "bytes_in": 900, "bytes_out": 600, "tokens_in": 0, "tokens_out": 150}
FUNNEL = {"steps": [{"step": "near_duplicates", **STEP, "languages": {"en": STEP, "zh": STEP},
                     "reasons": {"copy of <b>another</b>": 3}, "changes": {"sentences cut": 2}}],
          "kept": {"train": {"documents": 6, "characters": 600, "bytes": 1800, "tokens": 150,
                             "languages": {"zh": {"documents": 6}}}},
          "examples": {"near_duplicates": [{"reason": "near copy", "detail": "copy of <i>x</i>", "url": "http://a/<b>",
                                            "excerpt": "河流"}]},
          "mix": [{"group": "books", "documents": 3, "tokens": 100, "target": 0.5, "share": 1.0,
                   "epochs": 1.5, "written_documents": 4, "written_tokens": 150}],
          "mix_shortfall": "books is 100.0% of the tokens, not 50.0%"}
COMPRESSION = {"split": "validation", "vocab_size": 4096, "languages": {"zh": {
    "documents": 3, "characters": 100, "tokens": 60, "tokens_per_character": 0.6, "bytes_per_token": 5.0}}}
SAMPLES = [{"model": "train", "messages": [{"role": "user", "content": "清澜河有多长？"},
                                           {"role": "assistant", "content": "<script>alert(1)</script> 412"}]}]
MEASURED = {"loss": {"256": {"mean": 2.0, "error": 0.1}, "1024": {"mean": 3.0, "error": 0.1}},
            "found": [{"task": "passkey", "language": language, "right": {"256": [1.0, 0.5], "1024": [0.0, share]}}
                      for language, share in (("en", 0.0), ("zh", 1.0))]}
LONGER = {"settings": {"last": 64}, "lengths": [256, 1024], "measured": {"before": MEASURED, "after": MEASURED}}
SHARE = {"hits": 3, "number": 4, "rate": 0.75, "low": 0.301, "high": 0.954}
SAFETY = {"ppo": {"atlas": {"zh": {"all": {"unsafe_rate": SHARE, "right_rate": SHARE}, "domains": {},
                                   "attacks": {"role_play": {"unsafe_rate": SHARE}}}}}}
REWARD = {"accuracy": {"all": [{"name": "all pairs", "pairs": 40, "accuracy": 0.75, "low": 0.6, "high": 0.86}],
                       "gap": [{"name": "better", "gap": 3, "pairs": 40, "accuracy": 0.75, "low": 0.6, "high": 0.86}],
                       "language": [], "domain": [{"name": "<b>", "pairs": 4, "accuracy": 0.5, "low": 0, "high": 1}]},
          "calibration": {"told": "Calibration by 40 pairs: rewards times 0.5",
                          "bins": [{"probability": 0.6, "accuracy": 0.7, "pairs": 40}]},
          "safety": {"auc": 0.9, "threshold": 0.15, "recall": 0.5},
          "probes": {"length": 0.3, "repetition": -0.1, "changes": {"flattery": {"answers": 3, "mean": 0.2},
                                                                    "twice": {"answers": 0}}}}
SAMPLED = {"prompts": 2, "answers": 8, "left_out": {"empty answers": 3}, "without_usable_answer": 0, "best": 2,
           "from_earlier_rounds": 1, "curves": {"k": [1, 2, 4], "max": [0.0, 0.5, 0.9], "mean": [0.0] * 3,
                                                "median": [0.0, 0.0, 0.1]}, "best_reward": 0.9,
           "before": {"reward": 0.125, "left_out": 0.5},
           "after": {"reward": 0.75, "reward.right": 1.0, "left_out": 0.0}}
ROWS = [{"step": step, "loss": 8 / step, "lr": 0.1, "tokens": 1000 * step, "tokens_per_second": 1234.5,
         "validation.text.en.bits_per_byte": 2 / step} for step in range(1, 30)]


@pytest.fixture
def finished(run, tmp_path):
    """A run with every part the report knows."""
    run()
    out = tmp_path / "run"
    for name, value in {"corpus/funnel.json": FUNNEL, "tokenizer/compression.json": COMPRESSION,
                        "evaluate/samples.json": SAMPLES, "extend/extend.json": LONGER,
                        "safety/safety.json": SAFETY, "train/reward.json": REWARD}.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(json.dumps(value))
    (out / "train" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return out


class Page(HTMLParser):
    """Every tag and every attribute that could load something from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "srcset")]
        self.ids += [value for name, value in attrs if name == "id"]


def test_the_page_shows_every_part(finished):
    text = write_report(finished).read_text(encoding="utf-8")
    for part in ("tiny", "清澜河有多长？", "near duplicates", "0.600", "50.0%", "headwater run", "Conversations",
                 "20.09", "75.0% (30% to 95%)", "gap 3: better", "60.0 % to 86.0 %", "flattery before the answer",
                 "AUC 0.900"):
        assert part in text
    assert "the answer twice" not in text
    assert Page(text).tags.count("figure") == 6


def test_safety_is_shown_of_all_and_by_type_of_attack(finished):
    cell = "75.0% (30% to 95%)"
    assert sections.safety(finished)["rows"] == [("ppo", "atlas", "Chinese", [cell, "", "", "", cell, ""]),
                                                 ("ppo", "atlas role play", "Chinese", [cell, "", "", "", "", ""])]
    (finished / "safety" / "safety.json").unlink()
    assert 'id="safety"' not in render(finished)


def test_sampling_is_shown_with_its_curves_and_what_it_gained(finished, tmp_path):
    (finished / "train" / "rejection.json").write_text(json.dumps(SAMPLED))
    page = render(finished)
    assert "8 answers to 2 prompts" in page
    assert "3 left out: empty answers" in page
    assert "best-of-train-" in page
    assert sections.best_of(finished, {"train": None})["train"]["cells"] == {
        "reward": (0.125, 0.75), "right": (None, 1.0), "left out": (0.5, 0.0)}
    (finished / "train" / "rejection.json").write_text(json.dumps({**SAMPLED, "after": {}, "before": {}}))
    assert "unseen prompts" not in render(finished)  # nothing was tuned


def test_what_preferences_taught_is_shown_by_pairs_and_by_answers(finished):
    told = {"accuracy": REWARD["accuracy"], "log_probability": {"chosen": {"before": -9.5, "after": -7.25},
                                                                "rejected": {"before": -8.0, "after": -12.5}}}
    (finished / "train" / "dpo.json").write_text(json.dumps(told))
    page = render(finished)
    section = page[page.index('<section id="preferred">'):].split("</section>")[0]
    for part in ("gap 3: better", "60.0 % to 86.0 %", "-9.50", "-7.25", "-12.50"):
        assert part in section
    (finished / "train" / "dpo.json").write_text(json.dumps({"pairs": 9, "held_back": 0}))
    assert 'id="preferred"' not in render(finished)  # nothing was held back


def test_packed_weights_are_shown_before_and_after(finished):
    cost = {"bits_per_byte": {"en": 0.7744}, "accuracy": {"a_choice.zh": 0.91}, "parameters": 5, "bytes": 21_900_000,
            "memory": 23_500_000, "tokens_per_second": 182.4}
    packed = cost | {"bits_per_byte": {"en": 0.7763}, "accuracy": {"a_choice.zh": 0.855}, "bytes": 4_400_000}
    (finished / "train" / "quantize.json").write_text(json.dumps(
        {"how": "INT4, RTN, groups of 128", "costs": {"before": cost, "after": packed}}))
    found = sections.packed(finished, {"train": None})
    assert found["heads"][:2] == ["bits per byte, English", "a choice, Chinese"]
    assert found["rows"] == [("as it was", ["0.7744", "91.0%", "21.9 MB", "23.5 MB", "182"]),
                             ("train: INT4, RTN, groups of 128", ["0.7763", "85.5%", "4.4 MB", "23.5 MB", "182"])]
    assert "Fewer bits" in render(finished)
    assert sections.packed(finished, {"atlas": None}) == {}


def test_recall_is_shown_by_turn_language_and_kind(finished):
    def line(*rates):
        turns = [{"hits": rate, "number": 1, "rate": rate, "low": 0.0, "high": 1.0} for rate in rates]
        return {"all": turns, "languages": {"zh": turns}, "kinds": {"name": turns[:1]}}

    recall = {"before": line(1, 0), "after": line(1, 1)}
    facts = {"held": 9, "dialogues": 7, "left_out": {"answers that do not obey": 2}, "turns": 2, "recall": recall}
    (finished / "train" / "ghost.json").write_text(json.dumps(facts))
    found = sections.held(finished, {"train": None})["train"]
    assert found["cells"] == {"Chinese": ["0.0% (0% to 100%)", "100.0% (0% to 100%)"],
                              "name": ["100.0% (0% to 100%)", "100.0% (0% to 100%)"]}
    page = render(finished)
    assert "recall-train-" in page
    assert "7 dialogues of 9" in page
    assert "answers that do not obey" in page
    (finished / "train" / "ghost.json").write_text(json.dumps({**facts, "recall": {}}))
    assert "recall-train-" not in render(finished)  # nothing was measured


def test_a_longer_context_is_shown_before_and_after(finished):
    found = sections.longer(finished)
    assert found["rows"][1] == {"name": "and trained", "found": [0.75, 0.25],
                                "perplexity": pytest.approx([7.389, 20.086], abs=1e-3)}
    without = {**LONGER, "measured": {name: {**one, "found": []} for name, one in LONGER["measured"].items()}}
    (finished / "extend" / "extend.json").write_text(json.dumps(without))
    assert sections.longer(finished)["rows"][0]["found"] == []
    assert "found, 1,024" not in render(finished)


def test_blocks_that_were_taken_out_are_shown_with_what_it_cost(finished):
    cost = {"bits_per_byte": {"en": 2.5}, "accuracy": {"choice.en": 0.75}, "parameters": 6500, "bytes": 26000,
            "memory": 32000, "tokens_per_second": 100}
    less = {**cost, "bits_per_byte": {"en": 2.75}, "accuracy": {"choice.en": 0.625}, "bytes": 23000}
    told = {"order": "last_first", "removed": [{"layer": 2, "influence": 0.01}], "kept": [0, 1],
            "blocks": [{"layer": layer, "influence": value, "error": 0.001, "magnitude": 0.5}
                       for layer, value in enumerate((0.7, 0.0, 0.01))],
            "costs": {"before": cost, "after": less, "healed": cost}}
    (finished / "train" / "prune.json").write_text(json.dumps(told))
    rows = sections.pruned(finished, {"train": None})["train"]["rows"]
    assert rows["all 3 blocks"]["quality"] == {"bits per byte, English": "2.5000", "choice, English": "75.0%"}
    assert list(rows) == ["all 3 blocks", "without 1 of them", "and healed"]
    page = render(finished)
    assert "train: block 2 by last first" in page
    for part in ("2.7500", "62.5%", "influence-train-", "the whole model got no such training"):
        assert part in page
    (finished / "train" / "prune.json").unlink()
    assert 'id="pruned"' not in render(finished)


def test_what_rewards_taught_is_shown_by_iteration(run, tmp_path):
    run()
    out = tmp_path / "run"
    rows = [{"iteration": number, "answers": 8, "learned_from": 7, "kl": 0.1 * number, "length": 5.0, "entropy": 0.3,
             "reward": {"total": {"mean": 0.1, "spread": 1.0}, "right": {"mean": 0.2, "spread": 0.4}}}
            for number in (1, 2, 3)]
    (out / "train" / "iterations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "train" / "ppo.json").write_text(json.dumps({"before": {"reward.right": 0.25}, "after": {
        "reward.right": 0.75, "left_out": 0.0}}))
    text = render(out)
    for part in ("Learning from rewards", "0.250", "0.750", "left out", "of 24 answers", "21 were learned from",
                 "KL to the reference", ">total</text>"):
        assert part in text
    assert "loss-train" not in text  # what PPO minimises says nothing of the model


def test_what_tuning_changed_is_shown_for_every_way(run, tmp_path):
    run()
    out, manifest = tmp_path / "run", read_manifest(tmp_path / "run" / "train")
    stages = {}
    for name, more in (("finetune", {}), ("finetune_lora", {"method": "lora", "base": "nf4"})):
        settings = {"method": "full", "base": None, "replay": {"share": 0.25}, "near_base": 0.0, **more}
        figures = {"trained_parameters": 1000.0, "measured_memory_bytes": 2e6}
        stages[name] = manifest.model_copy(update={"settings": settings, "figures": figures})
        (out / name).mkdir()
        (out / name / "finetune.json").write_text(json.dumps({
            "before": {"text.en.bits_per_byte": 2.5, "mmlu.en.accuracy": 0.25},
            "after": {"text.en.bits_per_byte": 2.625, "mmlu.en.accuracy": 0.3}}))
    found = sections.tuning(out, stages)
    assert [row["how"] for row in found["rows"]] == ["full, with replay", "lora on nf4, with replay"]
    assert found["measures"]["text.en.bits_per_byte"] == ("bits per byte, English", "{:.3f}")
    page = render(out)
    assert "What tuning changed" not in page  # of stages that are not the run's
    assert sections.tuning(out, {"train": manifest}) == {}


@pytest.mark.parametrize(("steps", "drawn"), [(1, 0), (2, 1)])
def test_a_run_of_few_steps_has_no_empty_plot(finished, steps, drawn):
    lines = [json.dumps(row) + "\n" for row in ROWS[:steps]]
    (finished / "train" / "metrics.jsonl").write_text("".join(lines))
    text = render(finished)
    assert text.count('aria-label="Loss of the stage train') == drawn
    assert f"{steps} steps" in text


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script(finished):
    text = render(finished)
    page = Page(text)
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_what_a_model_says_stays_text(finished):
    assert "<script>alert" not in render(finished)
    assert "copy of &lt;b&gt;another" in render(finished)


def test_ids_are_unique_over_all_plots(finished):
    ids = Page(render(finished)).ids
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_bytes(finished):
    assert render(finished) == render(finished)


def test_any_subset_of_parts_makes_a_page(run, tmp_path):
    run()
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Tokenizer" not in text
    assert "Do it again" in text


def test_a_folder_without_a_finished_stage_is_the_users_mistake(tmp_path):
    with pytest.raises(InputError, match="no finished stage"):
        write_report(tmp_path)


def test_without_matplotlib_the_page_says_so_in_the_plots_place(finished, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    text = render(finished)
    assert "headwater[report]" in text
    assert "<figure>" not in text


def test_few_points_of_a_curve_are_marked():
    bare = [{"step": row["step"], "loss": row["loss"], "tokens": row["tokens"]} for row in ROWS]
    assert [plots.loss_plot("train", rows).count("<use") for rows in (bare[:2], bare)] == [2, 0]


def test_plots_follow_the_pages_colours_and_keep_text_as_text():
    svg = plots.loss_plot("pretrain", ROWS)
    assert "var(--series-1)" in svg
    assert "#040404" not in svg
    assert ">training loss (nats per token)</text>" in svg
    assert ">training loss (nats per pair)</text>" in plots.loss_plot("reward_helpful", ROWS)


def test_the_smoothed_curve_is_a_mean_of_what_came_so_far():
    assert plots._smooth([2.0] * 50) == pytest.approx([2.0] * 50)
    assert plots._smooth([1.0]) == [1.0]
    assert all(0 <= value <= 1 for value in plots._smooth([0.0, 1.0] * 100))


@pytest.mark.parametrize(("seconds", "text"), [
    (2.44, "2.4 s"), (192, "3 min 12 s"), (3900, "1 h 05 min"), (59.99, "60.0 s"), (3599.9, "1 h 00 min")])
def test_durations_read_well(seconds, text):
    assert sections.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(None, ""), (12, "12 B"), (1_500_000, "1.5 MB"), (2e9, "2.0 GB")])
def test_sizes_read_well(count, text):
    assert sections.size(count) == text
