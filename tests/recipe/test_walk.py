"""The walk: what is done is skipped, what is half done goes on, what changed is made again, nothing is lost."""

import json
import os
import shutil

import pytest
import yaml

from headwater.cli.main import main
from headwater.recipe.manifest import read_manifest, read_started
from tests.recipe.tiny_stages import ROWS, STAGES


def states(capsys) -> dict[str, str]:
    """The last word said about every stage: skipped, done, starts."""
    lines = [line.split(": ", 1) for line in capsys.readouterr().err.splitlines() if ": " in line]
    return {name: text for name, text in lines if name in ("source", "train", "judge")}


def worked(folder) -> list[int]:
    return [int(line) for line in (folder / "checkpoints" / "log").read_text().split()]


def test_a_run_leaves_manifests_summary_recipe_and_report(run, tmp_path):
    assert run() == 0
    out = tmp_path / "run"
    manifest = json.loads((out / "train" / "manifest.json").read_text())
    assert manifest["figures"] == {"loss": 1 / ROWS}
    assert list(manifest["outputs"]) == ["model.safetensors"]
    assert manifest["command"][:2] == ["headwater", "run"]
    assert manifest["peak_memory_bytes"] > 1_000_000
    assert manifest["versions"]["python"]
    assert json.loads((out / "source" / "manifest.json").read_text())["seed"] == 7
    assert not list(out.glob("*/started.json"))
    assert (out / "recipe.yaml").exists()
    assert "tiny" in (out / "report.html").read_text()
    assert not list(out.rglob("*.lock"))


def test_summary_puts_figures_beside_the_model_they_belong_to(run, tmp_path):
    run()
    stages = json.loads((tmp_path / "run" / "summary.json").read_text())["stages"]
    assert list(stages) == ["source", "train", "judge"]
    assert stages["train"]["figures"] == {"loss": 1 / ROWS, "choice.en.accuracy": 0.5}
    assert stages["judge"]["figures"] == {"models": 1.0, "choice.en.accuracy": 0.5}
    assert stages["train"]["seconds"] > 0


def test_several_stages_of_one_kind_have_folders_of_their_own(recipe, tmp_path):
    values = yaml.safe_load(recipe.read_text())
    stages = values["stages"]
    values["stages"] = {"source": stages["source"], "train": stages.get("train"), "train_short": {"steps": 8}}
    recipe.write_text(yaml.safe_dump(values, sort_keys=False))
    command = ["run", str(recipe), "--out", str(tmp_path / "run"), "train_short.notes=4"]
    assert main(command, stages=STAGES) == 0
    assert read_manifest(tmp_path / "run" / "train_short").figures == {"loss": 1 / 8}
    assert read_manifest(tmp_path / "run" / "train").figures == {"loss": 1 / ROWS}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["stages"]
    assert list(summary) == ["source", "train", "train_short"]


def test_unchanged_stages_are_skipped(run, capsys):
    run()
    capsys.readouterr()
    assert run() == 0
    assert set(states(capsys).values()) == {"unchanged, skipped"}


def test_a_run_that_moved_is_still_done(run, recipe, tmp_path, capsys):
    run()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "run")  # new times as well
    capsys.readouterr()
    run()
    assert set(states(capsys).values()) == {"unchanged, skipped"}


def test_a_changed_setting_makes_that_stage_again_and_keeps_the_earlier_result(run, tmp_path, capsys):
    run()
    before = (tmp_path / "run" / "train" / "model.safetensors").read_text()
    capsys.readouterr()
    run("train.steps=41")
    said = capsys.readouterr().err
    assert "settings.steps changed" in said
    assert "source: unchanged, skipped" in said
    assert "judge: done" in said
    assert (tmp_path / "run" / "train.old" / "model.safetensors").read_text() == before
    assert (tmp_path / "run" / "train" / "model.safetensors").read_text() != before


def test_changed_input_content_makes_every_stage_after_it_again(run, recipe, capsys):
    run()
    capsys.readouterr()
    (recipe.parent / "input.txt").write_text("other\n")
    run()
    assert all("done" in text for text in states(capsys).values())


def test_an_input_that_was_only_touched_changes_nothing(run, recipe, capsys):
    run()
    os.utime(recipe.parent / "input.txt", (1, 1))
    capsys.readouterr()
    run()
    assert states(capsys)["source"] == "unchanged, skipped"


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text("x" * 64)])
def test_a_missing_or_damaged_output_is_made_again(run, tmp_path, capsys, damage):
    run()
    file = tmp_path / "run" / "train" / "model.safetensors"
    before = file.read_text()
    damage(file)
    capsys.readouterr()
    run()
    said = capsys.readouterr().err
    assert "model.safetensors missing or changed" in said
    assert "judge: unchanged, skipped" in said
    assert file.read_text() == before


def test_an_unreadable_manifest_counts_as_not_done(run, tmp_path):
    run()
    (tmp_path / "run" / "train" / "manifest.json").write_text("{")
    assert run() == 0
    assert read_manifest(tmp_path / "run" / "train") is not None


@pytest.mark.parametrize("inside", ["", "pages"])
def test_a_stage_does_not_write_over_what_it_reads(run, tmp_path, capsys, inside):
    run()
    source = tmp_path / "run" / "source"
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert main(["train", "--out", str(source), f"pages={source / inside}"], stages=STAGES) == 2
    assert f"train.pages: the input {source / inside} lies in --out {source}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", ["interrupted", "ctrl-c"])
def test_a_stopped_stage_goes_on_and_says_how(run, recipe, tmp_path, capsys, kind):
    assert run(f"train.fail={kind}") == 130
    said = capsys.readouterr().err
    assert "go on with the same command:" in said
    assert f"headwater run {recipe} --out {tmp_path / 'run'} train.fail={kind}" in said
    assert read_started(tmp_path / "run" / "train") is not None


@pytest.fixture
def stop(run, monkeypatch):
    """Walk with the given overrides and stop the training after 21 of its steps."""
    def stopped(*overrides):
        def sleep(seconds):
            if len(worked_so_far) == 21:
                raise KeyboardInterrupt
            worked_so_far.append(seconds)

        worked_so_far: list[float] = []
        with monkeypatch.context() as patch:
            patch.setattr("tests.recipe.tiny_stages.time.sleep", sleep)
            assert run(*overrides) == 130

    return stopped


def test_half_done_work_goes_on_from_its_checkpoint(run, stop, tmp_path, capsys):
    stop()
    capsys.readouterr()
    assert run() == 0
    assert "train: goes on" in capsys.readouterr().err
    steps = worked(tmp_path / "run" / "train")
    assert steps.count(5) == 1  # before the checkpoint: not again
    assert steps.count(20) == 2  # after it: worked again
    manifest = read_manifest(tmp_path / "run" / "train")
    assert manifest is not None
    assert manifest.interruptions == 1


@pytest.mark.parametrize("change", ["pause=0.001", "notes=10"])
def test_what_may_change_between_two_starts_lets_half_done_work_go_on(run, stop, tmp_path, capsys, change):
    stop()
    capsys.readouterr()
    assert run(f"train.{change}") == 0
    told = capsys.readouterr().err
    assert "train: goes on" in told
    assert ("train: notes changed: the work follows it from here on" in told) == ("notes" in change)
    assert worked(tmp_path / "run" / "train").count(5) == 1
    notes = {path.stem for path in (tmp_path / "run" / "train").glob("notes/*.json")}
    assert notes == ({"30", "40"} if "notes" in change else set())


def test_a_finished_result_stays_where_only_the_way_changed(run, tmp_path, capsys):
    run()
    capsys.readouterr()
    run("train.pause=0.001")
    assert states(capsys)["train"] == "unchanged, skipped"
    run("train.notes=10")
    assert "train: notes changed; the earlier result is kept in" in capsys.readouterr().err


def test_nothing_that_took_its_time_is_deleted_and_all_of_it_comes_back(run, stop, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("headwater.recipe.kept.WORTH_SECONDS", 0.0)
    folder = tmp_path / "run"
    stop("train.steps=50")
    run("train.steps=20")
    run("train.steps=12")
    assert read_started(folder / "train.old") is not None
    kept = read_manifest(folder / "train.old-2")
    assert kept is not None
    assert kept.settings["steps"] == 20
    capsys.readouterr()
    assert run("train.steps=50") == 0
    told = capsys.readouterr().err
    assert f"half-done work goes on again, taken back from {folder / 'train.old'}" in told
    assert worked(folder / "train").count(5) == 1
    run("train.steps=20")
    assert "result fits again, taken back from" in capsys.readouterr().err
    assert {read_manifest(path).settings["steps"] for path in folder.glob("train.old*")} == {12, 50}


def test_killed_while_results_change_places_nothing_is_lost(run, tmp_path, capsys):
    run()
    run("train.steps=41")
    shutil.move(tmp_path / "run" / "train", tmp_path / "run" / "train.old-2")  # and the other was not yet taken back
    capsys.readouterr()
    run()
    assert "taken back from" in capsys.readouterr().err
    run("train.steps=41")
    assert "taken back from" in capsys.readouterr().err


def test_a_refused_start_leaves_the_finished_result_where_it_was(run, tmp_path, capsys):
    run()
    before = (tmp_path / "run" / "train" / "model.safetensors").read_text()
    capsys.readouterr()
    assert run("train.fail=refused") == 2
    assert "train: refused, so the earlier result is put back" in capsys.readouterr().err
    assert (tmp_path / "run" / "train" / "model.safetensors").read_text() == before
    assert not (tmp_path / "run" / "train.old").exists()
    run()
    assert states(capsys)["train"] == "unchanged, skipped"


def test_seconds_count_every_attempt(run, tmp_path):
    assert run("train.pause=0.01", "train.fail=ctrl-c") == 130
    assert run("train.pause=0.01", "train.fail=ctrl-c") == 130
    started = read_started(tmp_path / "run" / "train")
    assert started is not None
    assert started.seconds >= 0.15
    assert started.interruptions == 1


def test_half_done_work_of_a_moment_is_dropped_and_never_displaces_a_finished_result(run, tmp_path, capsys):
    run()
    run("train.fail=ctrl-c")
    finished = (tmp_path / "run" / "train.old" / "model.safetensors").read_text()
    capsys.readouterr()
    run("train.steps=12")
    assert "the half-done work of 0 s is dropped" in capsys.readouterr().err
    assert (tmp_path / "run" / "train.old" / "model.safetensors").read_text() == finished
    assert not (tmp_path / "run" / "train.old-2").exists()


@pytest.mark.parametrize("kind", ["full", "library full"])
def test_a_full_disk_is_said_and_keeps_what_is_done(run, tmp_path, capsys, kind):
    assert run(f"train.fail={kind}") == 1
    said = capsys.readouterr().err
    assert "the disk is full" in said
    assert "free some space" in said
    assert "Traceback" not in said
    assert read_manifest(tmp_path / "run" / "source") is not None
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["stages"]["source"]


def test_an_unforeseen_error_is_one_message_and_a_kept_traceback(run, tmp_path, capsys):
    assert run("train.fail=what a surprise") == 1
    said = capsys.readouterr().err
    assert "stage train: unexpected TypeError: what a surprise" in said
    assert "Traceback" not in said
    assert "what a surprise" in (tmp_path / "run" / "crash.txt").read_text()
    assert run() == 0
    assert not (tmp_path / "run" / "crash.txt").exists()


def test_an_out_folder_that_is_a_file_is_the_users_mistake(run, tmp_path, capsys):
    (tmp_path / "run").write_text("")
    assert run() == 2
    assert "give another --out" in capsys.readouterr().err


def test_a_strangers_files_are_never_moved(run, tmp_path, capsys):
    (tmp_path / "run" / "train").mkdir(parents=True)
    (tmp_path / "run" / "train" / "thesis.txt").write_text("years of work")
    assert run() == 2
    assert "files that no run wrote (train/thesis.txt)" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["train"]
    assert (tmp_path / "run" / "train" / "thesis.txt").read_text() == "years of work"


def test_a_missing_input_names_the_setting_and_the_path(run, recipe, capsys):
    (recipe.parent / "input.txt").unlink()
    assert run() == 2
    said = capsys.readouterr().err
    assert "source.text" in said
    assert str(recipe.parent / "input.txt") in said


def test_temporaries_of_a_killed_process_are_swept_before_a_stage_goes_on(run, tmp_path):
    run("train.fail=ctrl-c")
    leftover = tmp_path / "run" / "train" / ".model.safetensors.abc.tmp"
    leftover.write_text("half")
    run("train.fail=ctrl-c")
    assert not leftover.exists()


def test_a_users_own_recipe_is_never_written_over(recipe, capsys):
    written = recipe.read_text()
    own = recipe.rename(recipe.with_name("recipe.yaml"))
    assert main(["run", str(own), "--out", str(own.parent)], stages=STAGES) == 2
    assert "files that no run wrote (recipe.yaml)" in capsys.readouterr().err
    assert own.read_text() == written


def test_the_recipe_a_run_wrote_gives_the_same_run(run, tmp_path, capsys):
    run()
    resolved = tmp_path / "run" / "recipe.yaml"
    capsys.readouterr()
    assert main(["run", str(resolved), "--out", str(tmp_path / "run")], stages=STAGES) == 0
    assert set(states(capsys).values()) == {"unchanged, skipped"}


def test_a_setting_taken_back_takes_the_earlier_result_back(run, tmp_path, capsys):
    run()
    first = (tmp_path / "run" / "train" / "model.safetensors").read_text()
    run("train.steps=41")
    second = (tmp_path / "run" / "train" / "model.safetensors").read_text()
    capsys.readouterr()
    run()
    assert "taken back from" in capsys.readouterr().err
    assert (tmp_path / "run" / "train" / "model.safetensors").read_text() == first
    assert (tmp_path / "run" / "train.old-2" / "model.safetensors").read_text() == second
    run("train.steps=41")
    assert (tmp_path / "run" / "train.old" / "model.safetensors").read_text() == first
