import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.align import ghost
from headwater.align.ghost import GhostSettings, run
from headwater.align.instructions import Check, Instruction, written
from headwater.align.recall import recall
from headwater.align.share import Share
from headwater.align.talks import NO_ROOM, Talk, greedily, hold, obediently, planned
from headwater.align.tuning import last_answer
from headwater.dialogues.reading import Dialogue, answer_by_answer, read_dialogues, render_each
from headwater.errors import InputError, SettingsError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.checkpoint import load_model, save_model
from headwater.train import Trainer, TrainerSettings
from headwater.train.objective import next_token
from headwater.train.packing import PackedBatches

LAKE, RIVER = (Instruction(instruction=f"Say {word}.", check=Check(contains=word), language="en", kind=word)
               for word in ("lake", "river"))
WORDS = ["How?", "Who?", "Where?", "When?"]
TRAINER = {"rows": 8, "sequence_length": 128, "precision": "float32", "compile": "off", "threads": 1,
           "record_places": False, "optimizer": {"learning_rate": 5e-3, "warmup_steps": 5}}


def write(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="session")
def forgetful(trained, tmp_path_factory):
    """Says what the question bids it to, and "no" to one without an instruction, whatever was said before."""
    folder = tmp_path_factory.mktemp("forgetful")
    talks = []
    for word in ("lake", "river"):
        for number, one in enumerate(WORDS):
            other, third = WORDS[number - 1], WORDS[number - 2]
            said = [(f"Say {word}. {one}", word), (f"Say {word}. {other}", word), (f"Say {word}. {third}", word)]
            talks += [said, [said[0], (other, "no"), (third, "no")], [(one, "no")]]
    rendered = [trained.chat.render([message for asked, answer in talk for message in (
        {"role": "user", "content": asked}, {"role": "assistant", "content": answer})]) for talk in talks]
    batches = PackedBatches([(one.ids, one.loss_mask) for one in rendered], rows=4, length=128, seed=0,
                            pad=trained.pad)
    config = ModelConfig(vocab_size=512, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=128)
    model = initialise(Decoder(config), 0)
    Trainer(model, next_token, batches, TrainerSettings.parse({**TRAINER, "rows": 4, "steps": 120})).fit(folder / "t")
    (folder / "tokenizer.model").write_bytes(trained.to_bytes())
    (folder / "tokenizer_config.json").write_text("{}")
    save_model(model, folder, tokenizer_from=folder)
    return folder


@pytest.fixture
def given_files(forgetful, tmp_path):
    bids = [one.model_dump(exclude_defaults=True) for one in (LAKE, RIVER)]
    asked = [{"messages": [{"role": "user", "content": word}]} for word in WORDS]
    files = {"instructions": [write(tmp_path / "i.jsonl", *bids)], "questions": [write(tmp_path / "q.jsonl", *asked)]}
    return {"model": forgetful, **files, "validation_instructions": files["instructions"],
            "validation_questions": files["questions"], "turns": 3, "dialogues": 24, "measured": 8, "max_tokens": 6,
            "tries": 8, "trainer": {**TRAINER, "epochs": 12}}


def test_what_was_forgotten_after_the_first_turn_is_kept_to_the_last(given_files, tmp_path):
    figures = run(GhostSettings.parse(given_files), tmp_path / "out")
    found = json.loads((tmp_path / "out" / "ghost.json").read_text())
    assert figures["every.turn_3"] == 1
    assert figures["before.turn_1"] == 1
    assert figures["before.turn_3"] < 0.2
    assert figures["after.turn_2"] == figures["after.turn_3"] == 1
    dialogues = read_dialogues([tmp_path / "out" / "dialogues.jsonl"])
    assert len(dialogues) == found["dialogues"] == found["held"] - sum(found["left_out"].values())
    for one in dialogues:
        bidden = [message["content"].startswith("Say ") for message in one.messages if message["role"] == "user"]
        assert bidden == [True, *[False] * (len(bidden) - 1)]
        word = one.messages[0]["content"].split()[1].rstrip(".")
        assert all(word in message["content"] for message in one.messages if message["role"] == "assistant")
    assert {len(one.messages) for one in dialogues} == {4, 6}


def test_a_run_that_is_stopped_goes_on_to_the_same_bytes(given_files, tmp_path, monkeypatch):
    monkeypatch.setattr(ghost, "AT_ONCE", 8)
    settings = GhostSettings.parse({**given_files, "measured": 4, "trainer": {**TRAINER, "steps": 3}})
    run(settings, tmp_path / "whole")
    held, calls = ghost.hold, []

    def stopped(*given):
        calls.append(given[2])
        if len(calls) in (3, 6):  # in the last portion of the dialogues, then behind two lines of recall
            raise KeyboardInterrupt
        held(*given)

    monkeypatch.setattr(ghost, "hold", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(settings, tmp_path / "parts")
    run(settings, tmp_path / "parts")
    assert calls == ["every", "every", "every", "every", "first", "system", "system", "every", "first"]
    for name in ("talks.jsonl", "dialogues.jsonl", "ghost.json", "model.safetensors",
                 *(f"recall/{line}.jsonl" for line in ("before", "system", "every", "after"))):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "parts" / "portions").exists()


def test_the_loss_is_on_the_last_answer_or_on_every_one(forgetful, trained):
    dialogue = Dialogue(written("Say lake.", WORDS[:3], ["lake", "the lake", "no"], "first"), "en")

    class Tuned:
        tokenizer = trained

    for loss, said in (("last", "no"), ("every", "lakethe lakeno")):
        chosen = GhostSettings.parse({"model": forgetful, "instructions": ["i"], "questions": ["q"], "loss": loss,
                                      "trainer": {**TRAINER, "steps": 1}})
        (ids, mask), = ghost._sequences(chosen, Tuned, [dialogue])
        learned = [one for one, yes in zip(ids, mask, strict=True) if yes and one not in trained.stop_ids]
        assert trained.decode(learned) == said


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["lake", "the river", "no", "湖"]), min_size=1, max_size=5))
def test_every_answer_at_once_is_each_turn_as_the_last_one_once(trained, answers):
    dialogue = Dialogue(written("Say lake.", WORDS * 2, answers, "first"), "en")
    whole, = render_each([dialogue], trained, 1000)
    cut = render_each(answer_by_answer([dialogue]), trained, 1000)
    assert all(one.ids == whole.ids[: len(one.ids)] for one in cut)  # what is read from left to right is the same
    places = sorted(place for one in cut for place, yes in enumerate(last_answer(one)) if yes)
    assert places == [place for place, yes in enumerate(whole.loss_mask) if yes]


def test_recall_is_counted_by_turn_of_those_who_came_to_it():
    talks = [Talk(0, LAKE, WORDS[:3], ["a lake", "lake", "no"]), Talk(1, RIVER, WORDS[:3], ["river", "lake", "River"]),
             Talk(2, LAKE, WORDS[:3], ["no"], NO_ROOM)]
    found = recall(talks)
    assert [(one["hits"], one["number"]) for one in found["all"]] == [(2, 3), (1, 2), (1, 2)]
    assert found["all"][0] == Share(2, 3).as_json()
    assert [one["rate"] for one in found["kinds"]["lake"]] == [0.5, 1, 0]
    assert [one["rate"] for one in found["kinds"]["river"]] == [1, 0, 1]
    assert found["languages"] == {"en": found["all"]}


@given(seed=st.integers(0, 99), turns=st.integers(2, 4), numbers=st.integers(1, 40))
def test_a_planned_talk_depends_on_its_number_and_the_seed_alone(seed, turns, numbers):
    lengths = list(range(2, turns + 1))
    found = planned([LAKE, RIVER], {"en": WORDS}, range(numbers), lengths, seed)
    assert planned([LAKE, RIVER], {"en": WORDS}, range(numbers - 1, numbers), lengths, seed) == found[-1:]
    assert all(len(set(one.questions)) == len(one.questions) for one in found)
    kinds = [one.instruction.kind for one in found]
    assert abs(kinds.count("lake") - kinds.count("river")) <= 1
    assert {len(one.questions) for one in found} <= set(lengths)
    if numbers >= 2 * len(lengths):
        assert {(one.instruction.kind, len(one.questions)) for one in found} == {
            (kind, length) for kind in ("lake", "river") for length in lengths}


def test_only_answers_that_obey_are_kept_and_others_break_the_talk(two_armed):
    engine = Engine.load(two_armed)
    bid = Instruction(instruction="Which?", check=Check(contains="lake"), language="en")
    talks = [Talk(number, bid, ["Which?"]) for number in range(40)]

    def held(tries, checked=True):
        own = [replace(one, answers=[]) for one in talks]
        hold(engine, own, "system", 4, obediently(engine, SamplingParams(max_tokens=4), 0, tries, checked=checked))
        return own

    once, often, every = held(1), held(40), held(1, checked=False)
    assert {one.broken for one in once} == {"", "answers that do not obey"}
    assert all(one.obeyed == [True] for one in (*once, *often) if not one.broken)
    assert sum(not one.broken for one in often) > sum(not one.broken for one in once)
    assert [one.asked for one in once] == [1] * 40
    assert {answer for one in every for answer in one.answers} >= {"lake", "river"}
    assert [one.answers for one in held(40)] == [one.answers for one in often]


def test_a_talk_ends_where_the_next_answer_has_no_room(two_armed):
    engine = Engine.load(two_armed)
    talk = Talk(0, LAKE, ["Which?"] * 9)
    hold(engine, [talk], "first", 8, greedily(engine, 8))
    assert 1 < len(talk.answers) < 9
    assert talk.broken == NO_ROOM


def test_instructions_that_nobody_obeys_and_too_few_questions_are_refused(given_files, tmp_path):
    never = write(tmp_path / "n.jsonl", {"instruction": "Say lake.", "check": {"contains": "tower"}})
    with pytest.raises(InputError, match="no dialogue can be learned from: answers that do not obey"):
        run(GhostSettings.parse({**given_files, "instructions": [never], "tries": 1}), tmp_path / "out")
    with pytest.raises(InputError, match="4 questions in it for talks of 5 turns"):
        run(GhostSettings.parse({**given_files, "turns": 5}), tmp_path / "out2")


@pytest.mark.parametrize(("changes", "told"), [
    ({"validation_questions": []}, "go together"), ({"turns": 1}, "turns"),
    ({"validation_questions": [], "validation_instructions": []}, "measured has no effect"),
    ({"trainer": {}}, "give steps or epochs")])
def test_settings_without_effect_are_refused(given_files, changes, told):
    with pytest.raises(SettingsError, match=told):
        GhostSettings.parse({**given_files, **changes})


def test_an_adapter_learns_it_too(given_files, tmp_path):
    run(GhostSettings.parse({**given_files, "method": "lora", "dialogues": 8, "measured": 2, "loss": "every",
                             "trainer": {**TRAINER, "steps": 2}}), tmp_path / "out")
    assert load_model(tmp_path / "out").config == load_model(given_files["model"]).config
