"""Breaks when copies of a dialogue or questions of a benchmark pass unseen, or what is alike by chance is dropped."""

import json

import pytest

from headwater.dialogues.checks import CheckSettings, checked
from headwater.dialogues.reading import Dialogue
from headwater.errors import SettingsError

STORY = ("The keeper of the old lighthouse climbs the narrow stairs every evening before the fishing boats come home, "
         "and lights the lamp with a long match that his daughter cuts from the driftwood on the beach.")
QUESTION = "Which of the rivers of the northern plain carries the most water to the sea in the months of spring?"


def talk(question, answer, system=""):
    messages = [{"role": "system", "content": system}] if system else []
    return Dialogue([*messages, {"role": "user", "content": question}, {"role": "assistant", "content": answer}], "en")


TOLD = talk("Tell me a story.", STORY)
COPY = talk("tell me a story", STORY.replace("long match", "short match") + " Good night.")
OTHER = talk("Tell me a story.", "A fox met a crow at the well and asked it, politely, for a drink of cold water.")


def test_near_copies_are_dropped_but_the_longest(capsys):
    found = checked([TOLD, COPY, OTHER], CheckSettings(copies="drop"))
    assert found == ([COPY, OTHER], 1, 0)
    assert "of 3 dialogues, 1 are nearly the same as another: left out" in capsys.readouterr().err


def test_near_copies_are_kept_and_counted(capsys):
    assert checked([TOLD, COPY, OTHER], CheckSettings()) == ([TOLD, COPY, OTHER], 1, 0)
    assert "1 are nearly the same as another\n" in capsys.readouterr().err


def test_a_shared_system_message_makes_no_copies():
    dialogues = [talk("hi", "hello there", STORY), talk("bye", "see you soon", STORY)]
    assert checked(dialogues, CheckSettings(copies="drop")).dialogues == dialogues


def test_a_copy_of_a_held_out_dialogue_goes_even_when_it_is_longer():
    assert checked([COPY, OTHER], CheckSettings(copies="drop"), held_out=[TOLD]) == ([OTHER], 1, 0)


def test_copies_of_held_out_dialogues_are_told_apart_from_copies_of_others(capsys):
    again = talk("Tell me a story!", OTHER.messages[1]["content"])
    assert checked([COPY, OTHER, again], CheckSettings(), held_out=[TOLD]).copies == 2
    said = capsys.readouterr().err
    assert "of 3 dialogues, 1 are nearly the same as one that is held back\n" in said
    assert "of 3 dialogues, 1 are nearly the same as another\n" in said


@pytest.mark.parametrize("action", ["drop", "keep"])
def test_questions_of_a_benchmark_are_found_in_questions_and_answers(tmp_path, capsys, action):
    (tmp_path / "bench.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "the Velna"}))
    leaked = [talk(QUESTION, "The Velna."), talk("Give me a quiz.", f"{QUESTION.upper()} A. Velna B. Dovan")]
    settings = CheckSettings.parse({"benchmarks": [{"path": tmp_path, "name": "rivers"}], "leaks": action})
    found = checked([*leaked, OTHER], settings)
    assert found.leaks == 2
    assert found.dialogues == ([OTHER] if action == "drop" else [*leaked, OTHER])
    assert "of 3 dialogues, 2 hold a question of a benchmark (rivers 2)" in capsys.readouterr().err


def test_a_setting_without_effect_is_refused():
    with pytest.raises(SettingsError, match="leaks without benchmarks"):
        CheckSettings.parse({"leaks": "keep"})


def test_settings_can_be_said_again():
    assert CheckSettings.parse(CheckSettings().model_dump(mode="json")) == CheckSettings()
