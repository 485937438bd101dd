"""Breaks when a public file of dialogues is read otherwise than docs/finetune.md says."""

import pytest

from headwater.dialogues.reading import ReadingSettings, read_dialogues, render_all
from headwater.errors import InputError

SKIP = ReadingSettings(on_bad_row="skip")


@pytest.mark.parametrize(("file", "told"), [
    ("alpaca_en/alpaca_en_demo.json", "800 Alpaca instructions (en 800)"),
    ("alpaca_zh/alpaca_zh_demo.json", "802 Alpaca instructions (en 34, zh 768)"),
    ("identity/identity.json", "85 times: a placeholder"),
    ("oasst_sft_zh/oaast_sft_zh.json", "539 Alpaca instructions"),
    ("glaive_toolcall_en/glaive_toolcall_en_demo.json", "233 ShareGPT conversations"),
    ("glaive_toolcall_zh/glaive_toolcall_zh_demo.json", "1 left out: observation after answer (row 154 on line 4631)"),
    ("sharegpt_zh/sharegpt_zh_1K_format.jsonl", "3 left out: question at the end, without an answer (line 62, "),
    ("reason_tool_use/reason_tool_use_demo_50.jsonl", "101 times: parts of reasoning are left out")])
def test_real_dialogues_are_read_and_written(shared, trained, capsys, file, told):
    dialogues = read_dialogues([shared / "data" / "sft" / file], SKIP)
    assert told in capsys.readouterr().err
    for dialogue, rendered in zip(dialogues[:20], render_all(dialogues[:20], trained, 100_000)):
        ends = sum(inside and index == trained.specials["<|end|>"]
                   for index, inside in zip(rendered.ids, rendered.loss_mask))
        assert ends == sum(message["role"] == "assistant" for message in dialogue.messages)


@pytest.mark.parametrize(("file", "words"), [
    ("sharegpt_zh/sharegpt_zh_1K_format.jsonl", "line 28, turn 3: an empty question"),
    ("self_instruct_human/seed_tasks.jsonl", "line 1: the key 'output' is missing"),
    ("belle_zh/eval_set.jsonl", "line 1: expected a dialogue, found question, std_answer"),
    ("kdconv_zh/film/dev.json", "row 1 on line 2: unknown key 'name'")])
def test_real_files_that_are_no_dialogues_are_refused_with_their_line(shared, file, words):
    with pytest.raises(InputError, match=words):
        read_dialogues([shared / "data" / "sft" / file])
