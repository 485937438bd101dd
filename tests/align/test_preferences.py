"""Breaks when a pair is read the wrong way round, a question lands on both sides, or a bad pair passes unseen."""

import gzip
import json
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.align.preference_forms import FORMS as PAIR_FORMS
from headwater.align.preference_forms import RATINGS, form_of
from headwater.align.preferences import PairSettings, Preference, PreferenceReading, read_preferences, read_sides
from headwater.atlas.preferences import helpful, safe
from headwater.atlas.world import build_world
from headwater.dialogues.rows import BadRow
from headwater.errors import InputError, SettingsError

ASK, GOOD, BAD = "How long is the Velna?", "482 km.", "Long."
USER = {"role": "user", "content": ASK}


def said(answer, question=ASK):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write(path, *rows):
    path.write_text(json.dumps(list(rows), ensure_ascii=False))
    return path


OURS = {"chosen": said(GOOD), "rejected": said(BAD)}
HH = {"chosen": f"\n\nHuman: {ASK}\n\nAssistant: {GOOD}", "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {BAD}"}
TURNS = [{"from": "human", "value": ASK}]
VOTES = {"idx": 1, "instruction": ASK, "input": "", "response1": BAD, "response2": GOOD}
FORMS = [
    ({**OURS, "rating": "better", "chosen_safe": True, "rejected_safe": False, "domain": "facts"},
     ("better", True, False)),
    (HH, (None,) * 3),
    ({"conversations": TURNS, "chosen": GOOD, "rejected": BAD}, (None,) * 3),
    ({"conversations": TURNS, "chosen": {"from": "gpt", "value": GOOD}, "rejected": {"from": "gpt", "value": BAD}},
     (None,) * 3),
    ({"instruction": ASK, "input": "", "output": "else", "chosen": GOOD, "rejected": BAD}, (None,) * 3),
    ({"instruction": ASK, "input": "", "output": [GOOD, BAD], "history": []}, ("slightly better", None, None)),
    ({"prompt": ASK, "response": [GOOD, BAD]}, (None, True, False)),
    ({**VOTES, "annotator1": 2, "annotator2": 2, "annotator3": 2}, ("significantly better", None, None)),
    ({**VOTES, "annotator1": 2, "annotator2": 0, "annotator3": 2}, ("better", None, None)),
    ({**VOTES, "annotator1": 2, "annotator2": 2, "annotator3": 1}, ("slightly better", None, None)),
    ({"input": ASK, "output_1": BAD, "output_2": GOOD, "label": 2}, (None,) * 3),
    ({"prompt": ASK, "chosen": said(GOOD), "rejected": said(BAD), "score_chosen": 8.5, "score_rejected": 5.0},
     ("significantly better", None, None)),
    ({"prompt": ASK, "chosen": GOOD, "rejected": BAD, "chosen-rating": 4.5, "rejected-rating": 4.0, "source": "x"},
     ("negligibly better", None, None)),
    ({"prompt": [USER], "chosen": [{"role": "assistant", "content": GOOD}],
      "rejected": [{"role": "assistant", "content": BAD}]}, (None,) * 3)]


@pytest.mark.parametrize(("row", "known"), FORMS)
def test_every_form_gives_the_better_answer_first(tmp_path, row, known):
    path = write(tmp_path / "p.json", row)
    domain = row.get("domain", "")
    assert read_preferences([path]) == [
        Preference(said(GOOD), said(BAD), *known, "en", domain, f"{path}, row 1 on line 1")]


def test_ranked_answers_give_every_pair_rated_by_their_distance(tmp_path):
    row = {"instruction": ASK, "input": "", "output": ["a", "b", "c", "d"], "history": [["Hi", "Hello"]]}
    found = read_preferences([write(tmp_path / "p.json", row)])
    told = {one.chosen[-1]["content"] + one.rejected[-1]["content"]: one.rating for one in found}
    assert told == {"ab": RATINGS[2], "bc": RATINGS[2], "cd": RATINGS[2], "ac": RATINGS[1], "bd": RATINGS[1],
                    "ad": RATINGS[0]}
    assert [message["content"] for message in found[0].chosen[:-1]] == ["Hi", "Hello", ASK]


def test_scores_are_cut_where_the_settings_say(tmp_path):
    row = {"prompt": ASK, "chosen": GOOD, "rejected": BAD, "score_chosen": 2.0, "score_rejected": 1.0}
    path = write(tmp_path / "p.json", row)
    assert read_preferences([path])[0].rating == "slightly better"
    assert read_preferences([path], PreferenceReading(score_cuts=(1.0, 0.5, 0.1)))[0].rating == RATINGS[0]
    with pytest.raises(SettingsError, match="score_cuts fall"):
        PreferenceReading.parse({"score_cuts": [1, 2, 3]})


@pytest.mark.parametrize(("row", "told", "fix"), [
    ({"chosn": said(GOOD), "rejected": said(BAD)}, "unknown key 'chosn'", "'chosen'"),
    ({**OURS, "ratng": "better"}, "unknown key 'ratng'", "'rating'"),
    ({"prompd": ASK, "chosen": GOOD, "rejected": BAD}, "unknown key 'prompd'", "'prompt'"),
    ({"conversations": TURNS, "chosen": GOOD, "rejeced": BAD}, "unknown key 'rejeced'", "'rejected'"),
    ({**OURS, "rating": "betterr"}, "unknown rating 'betterr'", "'better'"),
    ({**OURS, "chosen_safe": "yes"}, "true or false", ""), ({**OURS, "mood": 3}, "unknown key 'mood'", "known here"),
    ({"chosen": said(GOOD)}, "the key 'rejected' is missing", ""), ({"text": "a"}, "expected a preference", ""),
    (["a"], "expected a preference", ""), ({"chosen": GOOD, "rejected": BAD}, "transcript", "lists of messages"),
    ({"instruction": ASK, "output": GOOD}, "no list of answers", ""),
    ({"prompt": ASK, "response": [GOOD]}, "no list of two answers", ""),
    ({**VOTES, "annotator1": 2, "annotator2": 2, "annotator3": 7}, "annotators say 0, 1 or 2", ""),
    ({"input": ASK, "output_1": BAD, "output_2": GOOD, "label": 0}, "the label is not 1 or 2", ""),
    ({"prompt": ASK, "chosen": 3, "rejected": BAD}, "", "")])
def test_rows_of_no_form_are_refused_with_their_place_and_the_nearest_name(tmp_path, row, told, fix):
    with pytest.raises(InputError) as error:
        read_preferences([write(tmp_path / "p.json", row)])
    assert told in str(error.value)
    assert fix in str(error.value)
    assert "row 1 on line 1" in str(error.value)


def test_rows_of_no_form_are_left_out_where_the_settings_say_so(tmp_path, capsys):
    path = write(tmp_path / "p.json", OURS, {**OURS, "mood": 3}, "a")
    assert [one.chosen for one in read_preferences([path], PreferenceReading(on_bad_row="skip"))] == [said(GOOD)]
    assert "1 left out: unknown key 'mood' (row 2 on line 1)" in capsys.readouterr().err


JUNK = st.recursive(st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.text("ab\n", max_size=3)
                    | st.sampled_from(["user", "assistant", "gpt", "human", HH["chosen"], "better"]),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(
                        ["role", "content", "from", "value"]), inner, max_size=2), max_leaves=5)


@given(st.sampled_from(PAIR_FORMS).flatmap(lambda form: st.fixed_dictionaries(
    dict.fromkeys(form.needed, JUNK), optional=dict.fromkeys(form.others, JUNK))))
def test_whatever_a_row_holds_it_is_read_or_refused(row):
    with suppress(BadRow):
        for pair in form_of(row).read(row, (3, 2, 1)):
            assert all(isinstance(message["content"], str) for side in pair[:2] for message in side)


BAD_PAIRS = {
    "the two answers are the same": {"chosen": said(GOOD), "rejected": said(GOOD)},
    "an empty answer": {"chosen": said(GOOD), "rejected": said(" ")},
    "the two answers are to different questions": {"chosen": said(GOOD), "rejected": said(BAD, "And the Taro?")},
    "question after question": {"chosen": [USER, *said(GOOD)], "rejected": [USER, *said(BAD)]}}


def test_pairs_that_say_nothing_are_left_out_and_counted(tmp_path, capsys):
    path = write(tmp_path / "p.json", *BAD_PAIRS.values(), OURS, *BAD_PAIRS.values())
    assert len(read_preferences([path])) == 1
    told = capsys.readouterr().err
    assert f"{path}: 1 pairs of dialogues (en 1)" in told
    for reason in BAD_PAIRS:
        assert f"2 left out: {reason} (row" in told


def test_ties_are_left_out_and_counted(tmp_path, capsys):
    ties = [(0, 0, 0), (0, 0, 1), (0, 1, 2)]
    rows = [{**VOTES, **{f"annotator{place}": vote for place, vote in enumerate(votes, 1)}} for votes in ties]
    with pytest.raises(InputError, match=r"no pair .* a tie, or no majority among the annotators \(3\)"):
        read_preferences([write(tmp_path / "p.json", *rows)])
    even = {"prompt": ASK, "chosen": GOOD, "rejected": BAD, "score_chosen": 3, "score_rejected": 3}
    with pytest.raises(InputError, match=r"no higher score \(1\)"):
        read_preferences([write(tmp_path / "e.json", even)])


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1" + "0" * 400])
def test_scores_without_an_order_are_left_out_and_counted(tmp_path, capsys, score):
    row = json.dumps({"prompt": ASK, "chosen": GOOD, "rejected": BAD, "score_chosen": 8, "score_rejected": 5})
    path = tmp_path / "p.json"
    path.write_text(f"[{row}, {row.replace('8', score)}, {row.replace('5', score)}]")
    assert len(read_preferences([path])) == 1
    assert "2 left out: a score is no finite number" in capsys.readouterr().err


def test_pairs_that_others_contradict_are_counted_and_kept(tmp_path, capsys):
    turned = {"chosen": said(BAD), "rejected": said(GOOD)}
    elsewhere = {"chosen": said(BAD, "And the Taro?"), "rejected": said(GOOD, "And the Taro?")}
    assert len(read_preferences([write(tmp_path / "p.json", OURS, turned, OURS, elsewhere)])) == 4
    assert "of 4 pairs, 3 are contradicted by others" in capsys.readouterr().err
    read_preferences([write(tmp_path / "p.json", OURS, OURS, elsewhere)])
    assert "contradicted" not in capsys.readouterr().err


def test_a_file_holds_one_form(tmp_path):
    with pytest.raises(InputError, match="pairs of transcripts in a file of pairs of dialogues"):
        read_preferences([write(tmp_path / "p.json", OURS, HH)])


@given(st.lists(st.tuples(st.sampled_from(["Human", "Assistant"]), st.text("ab :\n", min_size=1).filter(str.strip)),
                min_size=1, max_size=6))
def test_a_transcript_is_taken_apart_where_it_was_put_together(turns):
    text = "".join(f"\n\n{speaker}: {words}" for speaker, words in turns)
    form = form_of({"chosen": text, "rejected": text})
    [pair] = form.read({"chosen": text, "rejected": text}, (3, 2, 1))
    roles = {"Human": "user", "Assistant": "assistant"}
    assert pair.chosen == [{"role": roles[speaker], "content": words.strip()} for speaker, words in turns]


def test_transcripts_say_nothing_before_the_first_turn():
    with pytest.raises(BadRow, match="does not begin"):
        list(form_of(HH).read({**HH, "chosen": "Hello " + HH["chosen"]}, (3, 2, 1)))


def pair(number, chosen="yes", rejected="no"):
    return {"chosen": said(chosen, f"Question {number}?"), "rejected": said(rejected, f"Question {number}?")}


def sides(path, **values):
    return read_sides(PairSettings.parse({"pairs": [path], **values}), seed=0)


def test_a_question_is_never_on_both_sides(tmp_path, capsys):
    path = write(tmp_path / "p.json", *(pair(number % 40, chosen=f"yes {number}") for number in range(120)))
    train, held_out = sides(path, validation_share=0.3)
    assert not {one.question for one in train} & {one.question for one in held_out}
    assert len(train) + len(held_out) == 120
    assert f"{len(train)} pairs are learned, {len(held_out)} are held back" in capsys.readouterr().err
    other = write(tmp_path / "v.json", pair(3), pair(99))
    train, held_out = sides(path, validation=[other])
    assert len(held_out) == 2
    assert len(train) == 117
    assert "3 have a question of the validation: left out" in capsys.readouterr().err


QUESTION = "Which of the rivers of the northern plain carries the most water to the sea in the months of spring?"


def test_copies_are_sought_among_questions_and_not_among_a_questions_pairs(tmp_path, capsys):
    near = QUESTION.replace("most water", "most sand")
    rows = [{"chosen": said(GOOD, QUESTION), "rejected": said(answer, QUESTION)} for answer in (BAD, "No.")]
    path = write(tmp_path / "p.json", *rows, {"chosen": said(GOOD, near), "rejected": said(BAD, near)}, pair(1))
    train, _ = sides(path, checks={"copies": "drop"})
    assert Counter(one.question for one in train) == {f"user {QUESTION}": 2, "user Question 1?": 1}
    assert "of 3 questions, 1 are nearly the same as another: left out" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["question", "answer"])
def test_questions_of_benchmarks_are_found_in_questions_and_answers(tmp_path, where):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "b.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "the Velna"}))
    leaked = {"chosen": said(GOOD, QUESTION), "rejected": said(BAD, QUESTION)} if where == "question" else \
        {"chosen": said(QUESTION, "A quiz!"), "rejected": said(BAD, "A quiz!")}
    path = write(tmp_path / "p.json", leaked, pair(1))
    train, _ = sides(path, checks={"benchmarks": [{"path": tmp_path / "bench", "name": "rivers"}]})
    assert [one.question for one in train] == ["user Question 1?"]


REAL = {"hh_rlhf/helpful-base/test.jsonl.gz": 1773, "hh_rlhf/harmless-base/test.jsonl.gz": 1749,
        "hh_rlhf/helpful-online/test.jsonl.gz": 186, "hh_rlhf/helpful-rejection-sampled/test.jsonl.gz": 382,
        "pku_saferlhf_NC/pku_seferlhf_realign_dpo_5k.json": 1545, "dpo_mix_en/dpo_en_demo.json": 226,
        "dpo_mix_zh/dpo_zh_demo.json": 224, "dpo_zh_500/dpo_zh_500.jsonl": 390,
        "oasst_rm_zh/oaast_rm_zh.json": 1437, "rasbt_preference_en/instruction-data-with-preference.json": 848,
        "llmbar/Natural/dataset.json": 79, "llmbar/Adversarial/Neighbor/dataset.json": 97}


@pytest.mark.parametrize(("name", "count"), REAL.items())
def test_real_files_are_read(shared, name, count):
    found = read_preferences([shared / "data" / "preference" / name])
    assert len(found) == count
    assert all(one.chosen[-1]["role"] == "assistant" and one.chosen[:-1] == one.rejected[:-1] for one in found)


def test_the_votes_of_a_real_file_with_answers_that_are_no_text(shared):
    path = shared / "data" / "preference" / "pandalm_test" / "testset-v1.json"
    with pytest.raises(InputError, match="row 105 on line 1250"):
        read_preferences([path])
    found = read_preferences([path], PreferenceReading(on_bad_row="skip"))
    assert Counter(one.rating for one in found) == {RATINGS[0]: 530, RATINGS[1]: 20, RATINGS[2]: 51}


def test_the_invented_worlds_preferences_are_read(tmp_path):
    world = build_world("tiny", 0)
    found = read_preferences([write(tmp_path / f"{number}.json", *rows)
                              for number, rows in enumerate((helpful(world, "train"), safe(world, "train")))])
    assert {one.language for one in found} == {"en", "zh"}
    assert {one.rating for one in found} == set(RATINGS)
    assert all(one.domain for one in found)


def test_single_answers_with_a_label_are_no_pairs(shared):
    with pytest.raises(InputError, match=r"one answer with a label \(KTO\), no pair"):
        read_preferences([shared / "data" / "preference" / "kto_en" / "kto_en_demo.json"])


def test_packed_lines_are_read(tmp_path):
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(json.dumps(OURS).encode()))
    assert len(read_preferences([tmp_path / "p.jsonl.gz"])) == 1
