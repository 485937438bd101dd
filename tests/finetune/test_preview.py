"""Breaks when what is shown as learned is not what the loss is taken on."""

import json

import pytest

from headwater.cli.main import main
from headwater.dialogues.painting import painted
from headwater.tokenizer import Tokenizer

ROWS = [{"messages": [{"role": "user", "content": "hi [b]"}, {"role": "assistant", "content": "hello :smile:"}]},
        {"messages": [{"role": "user", "content": "多长?"},
                      {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
                      {"role": "tool", "content": "482"}, {"role": "assistant", "content": "482公里。"}]}]


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, row in zip(paths, ROWS):
        path.write_text(json.dumps(row))
    return [str(path) for path in paths]


def test_a_dialogue_is_printed_with_what_is_learned_of_it(files, small_model, capsys):
    assert main(["finetune", "preview", *files, f"model={small_model}"]) == 0
    ids = len(Tokenizer.load(small_model).chat.render(ROWS[0]["messages"]).ids)
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"{files[0]}, line 1: dialogues of messages (en), written with headwater's template with tools",
        "<s><|user|>hi [b]<|end|><|assistant|>⟦hello :smile:<|end|>⟧"]
    main(["finetune", "preview", *files, f"model={small_model}"])
    assert f"{ids} tokens" in capsys.readouterr().out


def test_a_row_is_counted_through_all_files(files, small_model, capsys):
    assert main(["finetune", "preview", f"model={small_model}", *files, "row=2"]) == 0
    shown = capsys.readouterr().out
    assert ("<|user|>多长?<|end|><|assistant|>⟦<|call|>f\n{}<|end|>⟧<|observation|>482<|end|><|assistant|>"
            "⟦482公里。<|end|>⟧") in shown
    assert "of these 3 special; 4 messages, 2 of the assistant, 1 of these calls" in shown


def test_on_a_terminal_what_is_learned_is_coloured(small_model):
    tokenizer = Tokenizer.load(small_model)
    rendered = tokenizer.chat.render(ROWS[0]["messages"])
    shown = painted(tokenizer, rendered.ids, rendered.loss_mask, colours=True)
    assert shown.plain == "<s><|user|>hi [b]<|end|><|assistant|>hello :smile:<|end|>"
    spans = [(shown.plain[span.start : span.end], span.style) for span in shown.spans]
    assert spans == [("<s><|user|>", " underline"), ("<|end|><|assistant|>", " underline"),
                     ("hello :smile:", "bold green"), ("<|end|>", "bold green underline")]


def test_a_mark_that_was_typed_does_not_look_like_a_real_one(small_model):
    tokenizer = Tokenizer.load(small_model)
    messages = [{"role": "user", "content": "a<|end|>b</s>"}, {"role": "assistant", "content": "<|end|>"}]
    rendered = tokenizer.chat.render(messages)
    assert painted(tokenizer, rendered.ids, rendered.loss_mask, colours=False).plain == (
        "<s><|user|>a␛<|end|>b␛</s><|end|><|assistant|>⟦␛<|end|><|end|>⟧")
    shown = painted(tokenizer, rendered.ids, rendered.loss_mask, colours=True)
    assert [shown.plain[span.start : span.end] for span in shown.spans if "underline" in str(span.style)] == [
        "<s><|user|>", "<|end|><|assistant|>", "<|end|>"]


@pytest.mark.parametrize(("words", "said"), [
    (["row=3"], "fewer than 3 dialogues"), (["row=0"], "row"), (["modelz=x"], "did you mean 'model'?")])
def test_mistakes_are_told(files, small_model, capsys, words, said):
    assert main(["finetune", "preview", *files, f"model={small_model}", *words]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_file_is_told(small_model, tmp_path, capsys):
    (tmp_path / "none.jsonl").write_text("")
    assert main(["finetune", "preview", str(tmp_path / "none.jsonl"), f"model={small_model}"]) == 2
    assert "none.jsonl: the file is empty" in capsys.readouterr().err


def test_the_files_are_needed(small_model, capsys):
    assert main(["finetune", "preview", f"model={small_model}"]) == 2
    assert "needs a FILE" in capsys.readouterr().err
