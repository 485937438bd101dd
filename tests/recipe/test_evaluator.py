"""Benchmarks beside a real training on the Atlas's own texts, by the command line. Breaks when they change what is
trained, when a kill of either process loses or doubles one, or when their failure passes in silence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.artifacts import hash_file
from headwater.atlas.stage import AtlasSettings
from headwater.atlas.stage import run as atlas
from headwater.cli.main import main
from headwater.recipe import evaluator
from headwater.recipe.report import render
from headwater.recipe.summary import summary
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 60, 20
TRAINER = {"rows": 4, "sequence_length": 32, "threads": 1, "compile": "off", "precision": "float32", "log_every": 1,
           "checkpoint_seconds": 0.05, "snapshot_tokens": EVERY * 4 * 32}
MODEL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
TOKENS = [EVERY * 128, 2 * EVERY * 128, 3 * EVERY * 128]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The Atlas's dialogues as a corpus, a tokenizer, and its questions."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "atlas").mkdir()
    atlas(AtlasSettings(size="tiny"), folder / "atlas")
    lines = (folder / "atlas" / "dialogues" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [" ".join(turn["content"] for turn in json.loads(line)["messages"]) for line in lines[:200]]
    for split, own in (("train", texts[20:]), ("validation", texts[:20])):
        (folder / "corpus" / split).mkdir(parents=True)
        table = pa.table({"text": own, "language": ["zh" if any(one > "一" for one in text) else "en" for text in own]})
        pq.write_table(table, folder / "corpus" / split / "0.parquet")
    (folder / "tokenizer").mkdir()
    words = count_words((text, "") for text in texts).weighted()
    train_bpe(words, folder / "tokenizer" / "tokenizer.model", BpeSettings(vocab_size=1024))
    return folder


def words(world, out, *others, steps=STEPS, benchmarks=True):
    choice = world / "atlas" / "benchmarks" / "choice"
    asked = [f"benchmarks.evaluate.corpus={world / 'corpus'}", "benchmarks.evaluate.limit=12",
             *(f"benchmarks.evaluate.choice.atlas_choice.{code}={choice / code}" for code in ("en", "zh"))]
    return ["pretrain", "--out", str(out), f"corpus={world / 'corpus'}", f"tokenizer={world / 'tokenizer'}",
            f"model={json.dumps(MODEL)}", *(f"trainer.{name}={value}" for name, value in TRAINER.items()),
            f"trainer.steps={steps}", *(asked if benchmarks else []), *others]


def rows(out, name="benchmarks.jsonl"):
    path = out / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measured(out):
    """What a run must give again: all but seconds."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(out)]


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "pretrain"
    assert main(words(world, out)) == 0
    return out


def test_training_is_the_same_bit_for_bit_with_them_and_without(world, undisturbed, tmp_path):
    assert main(words(world, tmp_path / "plain", benchmarks=False)) == 0
    for name in ("loss", "grad_norm", "tokens"):
        assert [row[name] for row in rows(undisturbed, "metrics.jsonl")] == [
            row[name] for row in rows(tmp_path / "plain", "metrics.jsonl")]
    assert hash_file(undisturbed / "model.safetensors") == hash_file(tmp_path / "plain" / "model.safetensors")


def test_every_snapshot_has_its_row_and_the_last_is_the_models_own(world, undisturbed, tmp_path):
    assert [(row["tokens"], row["step"]) for row in rows(undisturbed)] == [(one, one // 128) for one in TOKENS]
    assert list((undisturbed / "snapshots").iterdir()) == []
    figures = summary(undisturbed)["stages"]["pretrain"]["figures"]
    own = {name: value for name, value in rows(undisturbed)[-1].items() if "." in name}
    assert {name.partition(".")[2]: value for name, value in figures.items() if name.startswith("benchmarks.")} == own
    for language in ("en", "zh"):
        assert own[f"text.{language}.bits_per_byte"] == pytest.approx(
            figures[f"validation.text.{language}.bits_per_byte"], rel=1e-6)
        assert own[f"atlas_choice.{language}.accuracy"] * 12 == pytest.approx(
            round(own[f"atlas_choice.{language}.accuracy"] * 12))


def test_the_report_draws_them_over_tokens_with_the_line_of_chance(undisturbed):
    text = render(undisturbed)
    plot = text[text.index("Benchmarks of the stage pretrain"):]
    assert "atlas choice, accuracy" in plot
    assert "text, bits per byte" in plot
    assert plot.count(">chance<") >= 2  # accuracy, and that of rephrased questions
    assert "evaluated beside the training: 3" in text


def test_a_finished_run_stays_done_whatever_was_to_be_watched(world, undisturbed, capfd):
    assert main(words(world, undisturbed, benchmarks=False)) == 0
    assert main(words(world, undisturbed, "benchmarks.threads=2")) == 0
    assert capfd.readouterr().err.count("unchanged, skipped") == 2


def test_questions_that_are_not_there_are_told_before_anything_is_trained(world, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    assert main(words(world, tmp_path / "out", f"benchmarks.evaluate.choice.mmlu.en={tmp_path / 'empty'}")) == 2
    assert "pretrain.benchmarks.evaluate.choice.mmlu.en" in capfd.readouterr().err
    assert main(words(world, tmp_path / "out", "trainer.snapshot_tokens=0")) == 2
    assert "set trainer.snapshot_tokens" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_fails_beside_the_training_is_said_and_made_up_for_by_the_same_command(world, undisturbed, tmp_path,
                                                                                    monkeypatch, capfd):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho the evaluation broke >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(evaluator.sys, "executable", str(broken))
    assert main(words(world, tmp_path / "out")) == 1
    said = capfd.readouterr().err
    assert "the evaluation beside training ended (the evaluation broke)" in said
    assert "trained: steps 60" in said
    assert "snapshots could not be evaluated (the evaluation broke)" in said
    monkeypatch.undo()
    before = rows(tmp_path / "out", "metrics.jsonl")
    assert main(words(world, tmp_path / "out")) == 0
    assert rows(tmp_path / "out", "metrics.jsonl") == before  # no step was taken again
    assert measured(tmp_path / "out") == measured(undisturbed)


def wait_for(condition, process, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        assert process.poll() is None, "it ended before it came to that"
        time.sleep(0.005)


def evaluators(out):
    """The processes that evaluate for this folder: their messages are open there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"headwater.evaluate.following" in (process / "cmdline").read_bytes() and os.readlink(
                    process / "fd" / "2") == str(out / "benchmarks.log"):
                found.append(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def start(*command):
    return subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"})


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.slow
def test_kills_and_ctrl_c_lose_nothing_and_leave_no_process(world, tmp_path, capfd):
    out, every = tmp_path / "killed", 300
    command = words(world, out, f"trainer.snapshot_tokens={every * 128}", steps=4 * every)
    first = start("headwater", *command)
    wait_for(lambda: rows(out, "snapshots.jsonl") and evaluators(out), first)
    first.kill()  # who trains: the evaluation ends by itself
    first.communicate()
    end = time.monotonic() + 20
    while evaluators(out) and time.monotonic() < end:
        time.sleep(0.02)
    assert evaluators(out) == []

    def disturb():
        while not evaluators(out):
            time.sleep(0.005)
        os.kill(evaluators(out)[0], signal.SIGKILL)  # the evaluation: training goes on
        while len(rows(out, "snapshots.jsonl")) < 2:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C

    threading.Thread(target=disturb, daemon=True).start()
    assert main(command) == 130
    assert "the evaluation beside training ended (signal 9)" in capfd.readouterr().err
    assert evaluators(out) == []
    assert main(command) == 0
    assert [row["tokens"] for row in rows(out)] == [row["tokens"] for row in rows(out, "snapshots.jsonl")] == [
        number * every * 128 for number in (1, 2, 3, 4)]
    assert list((out / "snapshots").iterdir()) == []


@pytest.mark.slow
def test_of_two_processes_that_train_the_first_has_them_evaluated(world, undisturbed, tmp_path):
    shared = start("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "headwater",
                   *words(world, tmp_path / "out"))
    said = shared.communicate(timeout=120)[1]
    assert shared.returncode == 0, said
    assert [row["tokens"] for row in rows(tmp_path / "out")] == TOKENS
    ours, theirs = rows(tmp_path / "out")[-1], rows(undisturbed)[-1]
    assert ours["text.en.bits_per_byte"] == pytest.approx(theirs["text.en.bits_per_byte"], rel=1e-3)
