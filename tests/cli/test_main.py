import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from headwater import __version__
from headwater.cli import main as cli
from headwater.cli.main import main
from headwater.recipe.stages import STAGES as REAL
from tests.recipe.tiny_stages import STAGES, write_recipe

ROOT = Path(__file__).parents[2]


def test_help_names_every_command_and_loads_nothing_heavy():
    code = ("import sys; from headwater.cli.main import main\n"
            "try: main(['--help'])\n"
            "finally: sys.exit(','.join({'torch', 'pydantic', 'rich', 'daft', 'yaml'} & set(sys.modules)) or 0)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in (*REAL, "run", "settings", "report", "chat", "serve"):
        assert f"\n    {name}" in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_stages_help_lists_its_settings(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert "[NAME=VALUE ...]" in shown
    for setting in REAL[name].settings.model_fields:
        assert f"\n  {setting}" in shown


def test_help_gives_type_default_bounds_and_text(capsys):
    with pytest.raises(SystemExit):
        main(["source", "--help"], stages=STAGES)
    shown = capsys.readouterr().out
    assert "  text  (path, required)\n      A file of text." in shown
    assert "  repeat  (int, default 1)" in shown


def test_help_gives_the_bounds_of_what_may_be_null(capsys):
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    assert "  validation_share  (float | null, > 0, < 1, default null)" in capsys.readouterr().out


def test_a_stage_alone_writes_the_same_manifest(tmp_path, capsys):
    recipe = write_recipe(tmp_path / "recipes")
    text = recipe.parent / "input.txt"
    assert main(["source", "--out", str(tmp_path / "a" / "source"), f"text={text}", "seed=7"], stages=STAGES) == 0
    assert main(["train", "--out", str(tmp_path / "a" / "train")], stages=STAGES) == 0
    assert main(["run", str(recipe), "--out", str(tmp_path / "b")], stages=STAGES) == 0
    alone, walked = ((tmp_path / run / "train" / "model.safetensors").read_text() for run in ("a", "b"))
    assert alone == walked
    alone, walked = (yaml.safe_load((tmp_path / run / "train" / "manifest.json").read_text())["fingerprint"]
                     for run in ("a", "b"))
    assert alone == walked
    assert main(["report", str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.strip().endswith("report.html")


def test_a_stage_alone_without_its_neighbour_says_what_to_set(tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "corpus").mkdir()
    assert main(["train", "--out", str(tmp_path / "train")], stages=STAGES) == 2
    told = capsys.readouterr().err
    assert "give pages=... with a path, or run that stage" in told
    assert "(known: corpus)" in told  # what has no stage's name, and no stage wrote, is none


def test_a_mistyped_second_word_is_told_the_nearest(capsys):
    assert main(["corpus", "explan", "page.html"]) == 2
    assert "did you mean 'corpus explain'" in capsys.readouterr().err


def test_a_first_word_alone_is_told_what_follows_it(capsys):
    assert main(["study"]) == 2
    assert "'study' is followed by one of digits, scaling" in capsys.readouterr().err


def test_the_help_of_a_first_word_lists_what_follows_it(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["study", "--help"])
    assert "headwater study digits" in capsys.readouterr().out


def test_a_group_of_settings_does_not_silently_drop_one_given_before(tmp_path, capsys):
    assert main(["pretrain", "--out", str(tmp_path / "run"), "trainer.rows=8", "trainer={steps: 3}"]) == 2
    assert "'trainer' would drop 'trainer.rows'" in capsys.readouterr().err


def test_a_plan_beyond_the_models_length_says_so(capsys):
    assert main(["plan", "Baichuan2-7B", "length=100000"]) == 0
    assert "made for 4,096 tokens" in capsys.readouterr().err


def test_a_stages_own_folder_has_a_report_that_changes_nothing_for_later_stages(tmp_path, capsys):
    recipe = write_recipe(tmp_path / "recipes")
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")], stages=STAGES) == 0
    assert main(["report", str(tmp_path / "run" / "source")]) == 0
    assert (tmp_path / "run" / "source" / "report.html").exists()
    assert main(["run", str(recipe), "--out", str(tmp_path / "run")], stages=STAGES) == 0
    assert "train: unchanged, skipped" in capsys.readouterr().err


def test_settings_prints_a_recipe_that_is_read_again(tmp_path, capsys):
    recipe = write_recipe(tmp_path / "recipes")
    assert main(["settings", str(recipe), "train.steps=9"], stages=STAGES) == 0
    values = yaml.safe_load(capsys.readouterr().out)
    assert values["stages"]["train"]["steps"] == 9
    assert values["stages"]["train"]["pages"] == "${source}/pages"


@pytest.mark.parametrize("words", [
    ["settings", "no-such-recipe"], ["settings", "no-such/recipe.yaml"], ["run", "quickstart", "--out", "x", "steps"],
    ["run", "quickstart", "--out", "x", "--steps=3"], ["settings", "quickstart", "pretrain.stepz=3"],
    ["report", "no-such-folder"], ["chat", "no-such-folder"], ["chat", ".", "temprature=1"],
    ["serve", ".", "port=99999"]])
def test_the_users_mistake_is_one_message_and_code_2(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("headwater")
    assert "to do:" in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_away_is_no_traceback():
    command = f"{sys.executable} -m headwater.cli.main settings quickstart | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("name: quickstart")
    assert "Traceback" not in done.stderr


def test_models_are_named_after_their_folders_each_name_once(small_model, tmp_path, capsys):
    folders = [tmp_path / "a" / "m-chat", tmp_path / "a" / "m", tmp_path / "b" / "m", tmp_path / "c" / "llama-2.5"]
    for folder in folders:
        shutil.copytree(small_model, folder)
    named = cli._named_models(folders)
    assert [one.partition("=")[0] for one in named] == [
        "models.m-chat.path", "models.m.path", "models.m-2.path", "models.llama-2-5.path"]
    assert [json.loads(one.partition("=")[2]) for one in named] == [str(folder) for folder in folders]
    told = capsys.readouterr().err
    assert told.count("is called") == 2
