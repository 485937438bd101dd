import json

import pytest

from headwater.align.instructions import Check, read_instructions, read_questions, written
from headwater.errors import InputError, SettingsError


def write(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("check", "obeys", "does_not"), [
    ({"contains": "Ann"}, "Seven, ann.", "Seven."), ({"begins": "Ahoy!"}, " ahoy! Seven.", "Seven. Ahoy!"),
    ({"ends": "Ahoy!"}, "Seven. Ahoy! ", "Ahoy! Seven."), ({"language": "zh"}, "七条河。", "Seven rivers."),
    ({"language": "en"}, "Seven.", "七 seven"), ({"begins": "七", "ends": "。"}, "七条。", "七条")])
def test_a_rule_sees_whether_an_answer_obeys(check, obeys, does_not):
    assert Check(**check).obeyed(obeys)
    assert not Check(**check).obeyed(does_not)


def test_the_instruction_stands_in_the_first_turn_in_every_one_or_before_all():
    def texts(place):
        return [(one["role"][0], one["content"]) for one in written("Be brief.", ["A?", "B?", "C?"], ["a", "b"], place)]

    assert texts("first") == [("u", "Be brief. A?"), ("a", "a"), ("u", "B?"), ("a", "b"), ("u", "C?")]
    assert texts("every") == [("u", "Be brief. A?"), ("a", "a"), ("u", "Be brief. B?"), ("a", "b"),
                              ("u", "Be brief. C?")]
    assert texts("system") == [("s", "Be brief."), ("u", "A?"), ("a", "a"), ("u", "B?"), ("a", "b"), ("u", "C?")]
    chinese = written("简短。", ["甲？", "乙？"], ["甲"], "first")
    assert [one["content"] for one in chinese] == ["简短。甲？", "甲", "乙？"]
    assert written("Be brief.", ["A?", "B?"], [], "every")[1:] == []  # what is not asked yet is not there


def test_rows_of_instructions_are_read_with_the_language_of_their_script(tmp_path):
    file = write(tmp_path / "i.jsonl", {"instruction": "叫我安。", "check": {"contains": "安"}},
                 {"instruction": "Use Chinese.", "check": {"language": "zh"}, "kind": "language", "short": "Chinese."})
    one, other = read_instructions([file])
    assert (one.language, one.kind, one.check.contains) == ("zh", "", "安")
    assert (other.language, other.kind, other.short, other.check.language) == ("en", "language", "Chinese.", "zh")


@pytest.mark.parametrize(("row", "told"), [
    ({"instruction": "Call me Ann.", "check": {"contain": "Ann"}}, "did you mean 'check.contains'"),
    ({"instruction": "Call me Ann.", "check": {}}, "nothing is checked"),
    ({"instruction": "Call me Ann."}, "'check' is required"),
    ({"instruction": "Speak Dutch.", "check": {"language": "nl"}}, "check.language"), (["a"], "a group of settings")])
def test_a_row_that_is_no_instruction_is_refused_with_its_line(row, told, tmp_path):
    file = write(tmp_path / "i.jsonl", {"instruction": "Call me Ann.", "check": {"contains": "Ann"}}, row)
    with pytest.raises(SettingsError) as error:
        read_instructions([file])
    assert told in str(error.value)
    assert "line 2" in str(error.value)


def test_questions_are_what_users_first_say(tmp_path):
    asked = {"role": "user", "content": "How long?"}
    dialogue = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "多长？"},
                {"role": "assistant", "content": "七。"}, {"role": "user", "content": "And?"}]
    file = write(tmp_path / "q.jsonl", {"messages": [asked], "expected": "7"}, {"messages": [asked]},
                 {"messages": dialogue, "kind": "fact"})
    assert read_questions([file]) == {"en": ["How long?"], "zh": ["多长？"]}
    for messages in ([{"role": "assistant", "content": "七。"}], None):
        with pytest.raises(InputError, match="q2\\.jsonl, line 1"):
            read_questions([write(tmp_path / "q2.jsonl", {"messages": messages})])
