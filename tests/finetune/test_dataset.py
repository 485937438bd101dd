"""Breaks when a conversation lands on both sides of the split, or the sides depend on anything but words and seed."""

import json

import pytest

from headwater.dialogues.reading import Dialogue
from headwater.errors import InputError, SettingsError
from headwater.finetune.dataset import DatasetSettings, read_dataset
from headwater.tokenizer import Tokenizer
from headwater.train.packing import PrefixSample


def talk(*texts, language="en"):
    return Dialogue([{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)],
                    language)


def words(dialogues):
    return {tuple(message["content"] for message in dialogue.messages) for dialogue in dialogues}


def write(path, dialogues):
    path.write_text("\n".join(json.dumps({"messages": one.messages, "language": one.language}) for one in dialogues))
    return path


def test_a_dataset_holds_back_a_share_by_language(trained, tmp_path, capsys):
    dialogues = [talk(f"{number}?", "yes", language=("en", "zh")[number % 2]) for number in range(40)]
    settings = DatasetSettings(dialogues=[write(tmp_path / "d.jsonl", dialogues)], validation_share=0.3, checks=None)
    found = read_dataset(settings, trained, 48, seed=0)
    held_back = sum(map(len, found.validation.values()))
    assert set(found.validation) == {"en", "zh"}
    assert len(found.train) + held_back == 40
    assert f"{held_back} are held back" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "share"), [(1, 0.1), (3, 0.999)])
def test_a_share_that_leaves_nothing_to_train_on_is_named(trained, tmp_path, count, share):
    path = write(tmp_path / "d.jsonl", [talk(f"{number}?", "yes") for number in range(count)])
    settings = DatasetSettings(dialogues=[path], validation_share=share, checks=None)
    with pytest.raises(InputError, match=f"validation_share: all {count} dialogues are held back"):
        read_dataset(settings, trained, 48, seed=0)


def test_separate_turns_have_the_same_learned_tokens(trained, tmp_path):
    path = write(tmp_path / "d.jsonl", [talk("how long?", "482 km.", "ok?", "yes"), talk("hi", "hello")])
    together, separate = (read_dataset(DatasetSettings(dialogues=[path], turns=turns), trained, 96, seed=0).train
                          for turns in ("together", "separate"))
    assert (len(together), len(separate)) == (2, 3)
    assert all(isinstance(one, PrefixSample) and one.prefix for one in separate)
    learned = [[index for one in found for index, inside in zip(one[0], one[1]) if inside]
               for found in (together, separate)]
    assert learned[0] == learned[1]


def test_copies_of_validation_dialogues_are_not_trained_on(trained, tmp_path):
    answer = "The river rises on Mount Taro, runs south for 482 km and ends in Lake Oruma near the old town."
    train = write(tmp_path / "t.jsonl", [talk("how long?", answer), talk("hi", "hello")])
    validation = write(tmp_path / "v.jsonl", [talk("How long", answer)])
    settings = DatasetSettings(dialogues=[train], validation=[validation], checks={"copies": "drop"})
    found = read_dataset(settings, trained, 256, seed=0)
    assert [trained.decode(one[0]) for one in found.train] == ["hihello"]
    assert len(found.validation["en"]) == 1


def test_a_dialogue_that_is_held_back_is_not_trained_on(trained, tmp_path, capsys):
    train = write(tmp_path / "t.jsonl", [talk("How  long?", "482 km."), talk("hi", "hello")])
    validation = write(tmp_path / "v.jsonl", [talk("how long?", "482 km."), talk("ok?", "yes")])
    found = read_dataset(DatasetSettings(dialogues=[train], validation=[validation], checks=None), trained, 256, seed=0)
    assert [trained.decode(one[0]) for one in found.train] == ["hihello"]
    assert len(found.validation["en"]) == 2
    assert "1 of 2 validation dialogues are also among those that are trained on: 1 left out" in capsys.readouterr().err
    with pytest.raises(InputError, match="validation: all dialogues are held back too"):
        read_dataset(DatasetSettings(dialogues=[train], validation=[train]), trained, 256, seed=0)


def test_two_ways_to_validate_exclude_each_other(tmp_path):
    with pytest.raises(SettingsError, match="exclude each other"):
        DatasetSettings.parse({"dialogues": ["a"], "validation": ["b"], "validation_share": 0.1})


def test_a_language_of_which_nothing_fits_is_left_out_of_validation(trained, tmp_path):
    long = talk("how long?", "very " * 99, language="zh")
    paths = [write(tmp_path / name, dialogues) for name, dialogues in (
        ("t.jsonl", [talk("hi", "hello")]), ("v.jsonl", [long, talk("ok?", "yes")]), ("l.jsonl", [long]))]
    settings = DatasetSettings(dialogues=paths[:1], validation=[paths[1]])
    assert set(read_dataset(settings, trained, 48, seed=0).validation) == {"en"}
    with pytest.raises(InputError, match="no validation dialogue fits 48 tokens"):
        read_dataset(DatasetSettings(dialogues=paths[:1], validation=[paths[2]]), trained, 48, seed=0)


def test_a_format_that_learns_the_last_answer_alone_learns_each_turn_by_turn(shared, tmp_path, capsys):
    folder = tmp_path / "chatglm2-6b"
    folder.mkdir()
    (folder / "tokenizer.model").symlink_to(shared / "tokenizers" / "chatglm2-3-64794" / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ChatGLMTokenizer"}')
    chatglm2 = Tokenizer.load(folder)
    long = talk("hi", "hello", "more", "no " * 99)
    path = write(tmp_path / "d.jsonl", [talk("how long?", "482 km.", "ok?", "yes"), long])
    found = {turns: read_dataset(DatasetSettings(dialogues=[path], turns=turns), chatglm2, 60, seed=0).train
             for turns in ("together", "separate")}
    learned = {turns: [chatglm2.decode([index for index, inside in zip(one[0], one[1]) if inside]) for one in every]
               for turns, every in found.items()}
    assert learned == {"together": ["yes", "hello"], "separate": ["482 km.", "yes", "hello"]}
    assert "ChatGLM2 learns the last answer of a dialogue alone; turns=separate learns each" in capsys.readouterr().err
