import json

import pytest

from headwater.atlas.tools import tool_dialogues
from headwater.atlas.world import build_world
from headwater.dialogues.reading import Dialogue, ReadingSettings, in_language, read_dialogues, render_all
from headwater.errors import InputError

GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "language": "en"}


def write(tmp_path, *rows):
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_dialogues_are_read_with_their_language(tmp_path):
    path = write(tmp_path, GOOD)
    assert read_dialogues([path]) == [Dialogue(GOOD["messages"], "en", f"{path}, line 1", "dialogues of messages")]


@pytest.mark.parametrize(("row", "words"), [
    ({"mesages": [1]}, "line 2: unknown key 'mesages'"), ("{", "line 2 is not valid JSON"),
    ([1], "found list"),
    ({"messages": [*GOOD["messages"], "hi"]}, "line 2, turn 3: expected an object in 'messages', found str"),
    ({"instruction": "a", "output": "b"}, "line 2: Alpaca instructions in a file of dialogues of messages"),
    ({"messages": [{"role": "user", "content": "hi"}]}, "nothing to learn from")])
def test_a_row_of_another_form_is_named_by_its_line(tmp_path, row, words):
    with pytest.raises(InputError, match=words):
        read_dialogues([write(tmp_path, GOOD, row)])


@pytest.mark.parametrize(("row", "user", "language"), [
    ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}, "hi", "en"),
    ({"instruction": "翻译", "input": "river", "output": "河流"}, "翻译\nriver", "zh"),
    ({"instruction": "hi", "output": "hello"}, "hi", "en")])
def test_the_public_forms_are_recognised_by_their_keys(tmp_path, row, user, language):
    [dialogue] = read_dialogues([write(tmp_path, row)])
    assert [message["role"] for message in dialogue.messages] == ["user", "assistant"]
    assert (dialogue.messages[0]["content"], dialogue.language) == (user, language)


def test_a_json_array_is_read_as_its_rows(tmp_path):
    path = tmp_path / "d.json"
    path.write_text(json.dumps([GOOD, GOOD]))
    assert len(read_dialogues([path])) == 2


def test_what_was_read_is_said_aloud_and_bad_rows_are_counted_by_reason(tmp_path, capsys):
    bad = {"messages": GOOD["messages"][:1]}
    path = write(tmp_path, GOOD, bad, {**GOOD, "language": "zh"}, bad, {**GOOD, "label": 1},
                 {"messages": [GOOD["messages"][0], {"role": "assistant", "content": "I am {{name}}."}]})
    assert len(read_dialogues([path], ReadingSettings(on_bad_row="skip"))) == 3
    assert capsys.readouterr().err.replace(f"{path}: ", "").splitlines() == [
        "3 dialogues of messages (en 2, zh 1)",
        "  1 times: a placeholder such as {{name}} in an answer, which is learned as it stands",
        "  2 left out: no message of the assistant: nothing to learn from (line 2, line 4)",
        "  1 left out: unknown key 'label' (line 5)"]
    assert len(read_dialogues([path], ReadingSettings(on_bad_row="skip", ignored_keys=["label"]))) == 4


@pytest.mark.parametrize("row", [
    {"messages": [{**message, "weight": 1} for message in GOOD["messages"]]},
    {"conversations": [{"from": "human", "value": "hi", "weight": 1}, {"from": "gpt", "value": "hello"}]}])
def test_an_ignored_key_may_stand_in_a_message(tmp_path, row):
    path = write(tmp_path, row)
    with pytest.raises(InputError, match="unknown key 'weight'"):
        read_dialogues([path])
    [dialogue] = read_dialogues([path], ReadingSettings(ignored_keys=["weight"]))
    assert all("weight" not in message for message in dialogue.messages)


def test_a_dialogue_the_chat_format_cannot_say_is_named_or_left_out(trained, capsys):
    user = {"role": "user", "content": "hi", "metadata": "x"}
    strange = Dialogue([user, GOOD["messages"][1]], "en", "d.jsonl, line 7")
    with pytest.raises(InputError, match=r"d.jsonl, line 7: turn 1 has metadata"):
        render_all([strange], trained, 48)
    assert len(render_all([strange, Dialogue(GOOD["messages"], "en")], trained, 48, "skip")) == 1
    assert "of 2 dialogues, 1 were left out: a turn has metadata" in capsys.readouterr().err
    with pytest.raises(InputError, match="none can be said in headwater"):
        render_all([strange], trained, 48, "skip")


@pytest.mark.parametrize("text", ["", "\n \n", "[]", "[\n]\n"])
def test_an_empty_file_is_refused_by_its_name(tmp_path, text):
    (tmp_path / "none.json").write_text(text)
    with pytest.raises(InputError, match=r"none\.json: the file is empty"):
        read_dialogues([write(tmp_path, GOOD), tmp_path / "none.json"])


def test_files_of_which_all_rows_are_left_out_are_refused(tmp_path):
    with pytest.raises(InputError, match="all rows were left out"):
        read_dialogues([write(tmp_path, [1])], ReadingSettings(on_bad_row="skip"))


def test_long_dialogues_keep_their_first_whole_rounds(trained, capsys):
    rounds = [{"role": "user", "content": "river?"}, {"role": "assistant", "content": "482 km."}]
    one = len(trained.chat.render(rounds).ids)
    kept = render_all([Dialogue(rounds * 5, "en"), Dialogue(rounds, "en")], trained, 2 * one)
    assert [item.ids for item in kept] == [trained.chat.render(rounds * 2).ids, trained.chat.render(rounds).ids]
    assert "1 were cut" in capsys.readouterr().err


def test_a_cut_never_parts_a_call_from_its_result(trained):
    call = {"role": "assistant", "content": "{}", "metadata": "look_up"}
    one_round = [{"role": "user", "content": "river?"}, call, {"role": "observation", "content": "482"},
                 {"role": "assistant", "content": "482 km."}]
    room = len(trained.chat.render([*one_round, *one_round[:3]]).ids)
    [kept] = render_all([Dialogue([*one_round, *one_round], "en")], trained, room)
    assert kept == trained.chat.render(one_round)


def test_dialogues_that_do_not_fit_at_all_are_refused(trained):
    with pytest.raises(InputError, match="no dialogue fits 4 tokens"):
        render_all([Dialogue(GOOD["messages"], "en")], trained, 4)


def test_the_invented_worlds_tool_dialogues_are_read_and_learned(trained, tmp_path):
    rows = tool_dialogues(build_world("tiny", 0), "train")
    dialogues = read_dialogues([write(tmp_path, *rows)])
    calls = sum(bool(message.get("metadata")) for dialogue in dialogues for message in dialogue.messages)
    assert calls == sum(len(message.get("tool_calls", ())) for row in rows for message in row["messages"])
    rendered = render_all(dialogues, trained, 10_000)
    mark = trained.specials["<|call|>"]
    assert sum(one.ids.count(mark) for one in rendered) == calls
    assert all(inside for one in rendered for index, inside in zip(one.ids, one.loss_mask) if index == mark)


@pytest.mark.parametrize(("text", "language", "same"), [
    ("The Red Hills.", "en", True), ("红土丘陵。", "zh", True), ("The 红 Hills", "en", False),
    ("It is 732.", "zh", False), ("1362.", "zh", True),
    ("", "en", True), ("732公里 km。", "zh", False), ("全长732公里。", "zh", True)])
def test_the_script_of_an_answer_tells_its_language(text, language, same):
    assert in_language(text, language) is same
