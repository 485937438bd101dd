import json

import pytest

from headwater.errors import InputError
from headwater.finetune.dialogues import Dialogue, read_dialogues, render_all

GOOD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "language": "en"}


def write(tmp_path, *rows):
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_dialogues_are_read_with_their_language(tmp_path):
    assert read_dialogues([write(tmp_path, GOOD)]) == [Dialogue(GOOD["messages"], "en")]


@pytest.mark.parametrize(("row", "words"), [
    ({"mesages": []}, "expected a dialogue, found mesages"), ("{", "line 2 is not valid JSON"),
    ([1], "found list"), ({"messages": ["hi"]}, "dialogue 2"),
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


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no dialogues"):
        read_dialogues([write(tmp_path)])


def test_long_dialogues_keep_their_first_whole_rounds(trained, capsys):
    rounds = [{"role": "user", "content": "river?"}, {"role": "assistant", "content": "482 km."}]
    one = len(trained.chat.render(rounds).ids)
    kept = render_all([Dialogue(rounds * 5, "en"), Dialogue(rounds, "en")], trained, 2 * one)
    assert [item.ids for item in kept] == [trained.chat.render(rounds * 2).ids, trained.chat.render(rounds).ids]
    assert "1 were cut" in capsys.readouterr().err


def test_dialogues_that_do_not_fit_at_all_are_refused(trained):
    with pytest.raises(InputError, match="no dialogue fits 4 tokens"):
        render_all([Dialogue(GOOD["messages"], "en")], trained, 4)
