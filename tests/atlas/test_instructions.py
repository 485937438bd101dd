"""Instructions that are to hold, dialogues in which they are obeyed at once, and what validation keeps."""

from __future__ import annotations

from collections import Counter

import pytest

from headwater.align.instructions import Check, read_instructions
from headwater.atlas.dialogues import Speaker
from headwater.atlas.instructions import Wanted
from headwater.atlas.language import LANGUAGES
from headwater.atlas.splits import SPLITS
from headwater.atlas.wishes import WISHES
from headwater.dialogues.reading import read_dialogues


@pytest.mark.parametrize("split", SPLITS)
def test_answers_that_are_written_to_obey_do_so_and_plain_ones_do_not(atlas, split):
    for code, language in LANGUAGES.items():
        for kind in WISHES[code]:
            for number in range(6):
                wanted = Wanted(Speaker(atlas.world, f"test/{code}/{kind}/{number}"), language, kind, split)
                check = Check(**wanted.row()["check"])
                asked, answer = wanted.round(split)
                assert asked["content"].startswith(wanted.text)
                assert check.obeyed(answer["content"])
                assert not check.obeyed("银鳟。" if code == "zh" else "Silver trout.")


def test_both_languages_have_the_same_kinds_and_every_file_has_all(atlas):
    assert [list(own) for own in WISHES.values()] == [["name", "role", "begins", "ends", "language"]] * 2
    for split in SPLITS:
        found = read_instructions([atlas.folder / "instructions" / f"{split}.jsonl"])
        assert {(one.language, one.kind) for one in found} == {(code, kind) for code, own in WISHES.items()
                                                                for kind in own}
        assert len({one.instruction for one in found}) == len(found)
        assert all(one.short and one.short != one.instruction for one in found)


def test_wordings_of_validation_are_nowhere_in_training_and_its_names_in_no_instruction_to_be_kept(atlas):
    train, unseen = (atlas.rows(f"instructions/{split}") for split in SPLITS)
    kept = "\n".join(row["instruction"] for row in train)
    obeyed = "\n".join(message["content"] for row in atlas.rows("dialogues/instructed") for message in row["messages"])
    for own in WISHES.values():
        for wish in own.values():
            assert max(wish.asks[-1].split("{v}"), key=len) not in kept + obeyed
    for row in unseen:
        (where, value), = row["check"].items()
        assert where == "language" or value not in kept


def test_dialogues_have_instructions_where_their_form_says(atlas):
    rows = read_dialogues([atlas.folder / "dialogues" / "instructed.jsonl"])
    forms = Counter(row["kind"] for row in atlas.rows("dialogues/instructed"))
    assert len(rows) == forms.total() == atlas.figures["dialogues_instructed"]
    bids = {wish.asks[number].partition("{v}")[0] for own in WISHES.values() for wish in own.values()
            for number in range(4)} - {""}
    for row in atlas.rows("dialogues/instructed"):
        bidden = [any(bid in message["content"] for bid in bids) for message in row["messages"]
                  if message["role"] == "user"]
        all_of_them = [True] * len(bidden)
        wanted = {"single": [True], "changed": all_of_them, "repeated": all_of_them,
                  "later": [*[False] * (len(bidden) - 1), True]}
        assert bidden == wanted[row["kind"]]
    assert set(forms) == {"single", "changed", "repeated", "later"}
