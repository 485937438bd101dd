"""Several adapters of one model in one batch, against each of them merged with the model and served alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from headwater.artifacts import write_json
from headwater.errors import CheckpointError, InputError
from headwater.folders import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from headwater.generate import Engine, SamplingParams
from headwater.generate.adapters import Adapters
from headwater.generate.chat_session import ChatSession
from headwater.model import Decoder
from headwater.model.adapters import LoraSettings, adapted, attach, attach_prefix, choice_of, save_adapter
from headwater.model.checkpoint import load_model, save_model
from headwater.model.extension import ContextSettings, KeptContext
from headwater.model.lora import Chosen
from headwater.model.prefix import PrefixSettings
from headwater.model.tensors import read_tensors, write_tensors
from headwater.tokenizer import Tokenizer

GREEDY = SamplingParams(temperature=0, max_tokens=24)
LORAS = {"train": LoraSettings(rank=2), "glm-4.5": LoraSettings(rank=3, targets=["q_proj", "down_proj"])}
PREFIXES = {"short": PrefixSettings(length=3), "long": PrefixSettings(length=9)}
NAMES = [None, *LORAS, *PREFIXES]


@pytest.fixture(scope="module")
def folder(make_model: Callable[..., Decoder], small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "model"
    save_model(make_model(), path, tokenizer_from=small_model)
    return path


@pytest.fixture(scope="module")
def folders(folder: Path) -> dict[str, Path]:
    """Two LoRA adapters, one with a name that is no module's, and two prefixes of different lengths."""
    found = {}
    for seed, name in enumerate((*LORAS, *PREFIXES)):
        model, found[name] = load_model(folder), folder.parent / f"adapter-{seed}"
        if name in PREFIXES:
            attach_prefix(model, PREFIXES[name], seed)
        else:
            attach(model, LORAS[name], seed)
            generator = torch.Generator().manual_seed(seed)
            for key, parameter in model.named_parameters():
                if key.endswith(".b"):
                    parameter.data.normal_(0, 0.1, generator=generator)
        save_adapter(model, found[name], folder)
    return found


@pytest.fixture(scope="module")
def alone(folder: Path, folders: dict[str, Path]) -> dict[str | None, Engine]:
    """Each adapter merged, or before the whole model, in an engine of its own."""
    return {name: Engine.load(folders.get(name or "", folder), max_batch=1) for name in NAMES}


def mixed(folder: Path, folders: dict[str, Path], **options: object) -> Engine:
    return Engine.load(folder, max_batch=4, adapters=folders, **options)  # type: ignore[arg-type]


def finish(engine: Engine) -> None:
    while engine.busy:
        engine.step()


def test_a_batch_of_several_adapters_answers_as_each_of_them_alone(
        folder: Path, folders: dict[str, Path], alone: dict[str | None, Engine], prompts: list[list[int]]) -> None:
    """Eleven requests for four slots: they are read together, end at different steps, and rows move."""
    engine = mixed(folder, folders)
    names = [NAMES[n % len(NAMES)] for n in range(len(prompts))]
    params = [SamplingParams(temperature=0 if n % 2 else 1.0, top_p=0.9, seed=n, max_tokens=5 + 3 * n, logprobs=2)
              for n in range(len(prompts))]
    handles = [engine.submit(prompt, own, name) for prompt, own, name in zip(prompts, params, names, strict=True)]
    finish(engine)
    wanted = [alone[name].generate([prompt], own)[0] for prompt, own, name in zip(prompts, params, names, strict=True)]
    assert [handle.tokens for handle in handles] == [answer.tokens for answer in wanted]
    assert len({len(answer.tokens) for answer in wanted}) > 3
    for handle, answer in zip(handles, wanted, strict=True):
        assert answer.logprobs is not None
        for one, other in zip(handle.logprobs, answer.logprobs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_one_prompt_is_continued_by_every_adapter_in_its_own_way(
        folder: Path, folders: dict[str, Path], alone: dict[str | None, Engine], prompts: list[list[int]]) -> None:
    engine = Engine.load(folder, max_batch=len(NAMES), adapters=folders)
    handles = [engine.submit(prompts[7], GREEDY, name) for name in NAMES]
    finish(engine)
    assert [h.tokens for h in handles] == [alone[name].generate([prompts[7]], GREEDY)[0].tokens for name in NAMES]
    assert len({tuple(handle.tokens) for handle in handles}) == len(NAMES)


def test_prompts_that_begin_alike_are_answered_beside_adapters(
        folder: Path, folders: dict[str, Path], alone: dict[str | None, Engine], prompts: list[list[int]]) -> None:
    """A call for the model itself, whose prompts share what they begin with, while two adapters answer; then a row that
    had a prefix holds a shared beginning."""
    engine = mixed(folder, folders)
    asked = [(prompts[7] * 2)[:48] + prompts[number] for number in range(6)]
    others = {name: engine.submit(prompts[6], GREEDY, name) for name in ("long", "train")}
    engine.step()
    found = engine.generate(asked, GREEDY)
    finish(engine)
    assert [one.tokens for one in found] == [alone[None].generate([prompt], GREEDY)[0].tokens for prompt in asked]
    for name, handle in others.items():
        assert handle.tokens == alone[name].generate([prompts[6]], GREEDY)[0].tokens


def test_slots_are_used_again_by_rows_of_other_adapters(
        folder: Path, folders: dict[str, Path], alone: dict[str | None, Engine], prompts: list[list[int]]) -> None:
    """After a long prefix the same rows have a short one, none, and none at all in the batch."""
    engine = mixed(folder, folders)
    for names in (["long"] * 4, ["short", None, "train", "short"], [None, None], ["glm-4.5"]):
        handles = [engine.submit(prompt, GREEDY, name) for prompt, name in zip(prompts[3:], names, strict=False)]
        finish(engine)
        wanted = [alone[name].generate([prompt], GREEDY)[0] for prompt, name in zip(prompts[3:], names, strict=False)]
        assert [handle.tokens for handle in handles] == [answer.tokens for answer in wanted]


def test_long_prompts_of_several_adapters_are_read_piece_by_piece(
        folder: Path, folders: dict[str, Path], alone: dict[str | None, Engine], prompts: list[list[int]],
        monkeypatch: pytest.MonkeyPatch) -> None:
    long = [(prompt * 20)[:size] for prompt, size in zip(prompts, (70, 33, 64, 69), strict=False)]
    wanted = [alone[name].generate([prompt], GREEDY)[0].tokens for name, prompt in zip(NAMES[1:], long, strict=True)]
    monkeypatch.setattr("headwater.generate.engine.PREFILL_TOKENS", 20)
    monkeypatch.setattr("headwater.generate.engine.MASKED", 1)
    engine = mixed(folder, folders)
    handles = [engine.submit(prompt, GREEDY, name) for name, prompt in zip(NAMES[1:], long, strict=True)]
    finish(engine)
    assert [handle.tokens for handle in handles] == wanted


def test_names_that_no_row_uses_cost_nothing(folder: Path, folders: dict[str, Path], prompts: list[list[int]],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    engine = mixed(folder, folders)
    choice = choice_of(engine.model)
    assert choice is not None
    seen = []
    plain = engine.model.hidden
    monkeypatch.setattr(engine.model, "hidden", lambda ids, **given: (
        seen.append((choice.now.names, given["cache"].front)), plain(ids, **given))[1])
    for names, wanted in ([None, None], ((), 0)), (["glm-4.5", None], (("1",), 0)), (["short"] * 2, ((), 3)):
        for name in names:
            engine.submit(prompts[4], SamplingParams(temperature=0, max_tokens=3), name)
        finish(engine)
        assert set(seen) == {wanted}
        seen.clear()
    assert choice.now == Chosen()


def test_likelihoods_are_the_models_own(folder: Path, folders: dict[str, Path], alone: dict[str | None, Engine],
                                        prompts: list[list[int]]) -> None:
    engine = mixed(folder, folders)
    for name in NAMES:
        engine.submit(prompts[5], GREEDY, name)
    engine.step()
    pairs = [(prompts[5], prompts[4])]
    assert engine.log_likelihoods(pairs) == alone[None].log_likelihoods(pairs)


@pytest.mark.parametrize("base", ["nf4", "int8"])
def test_adapters_stand_beside_packed_matrices(folder: Path, folders: dict[str, Path], trained: Tokenizer,
                                               prompts: list[list[int]], base: str) -> None:
    engine = mixed(folder, folders, base=base)
    handles = [engine.submit(prompt, GREEDY, name) for prompt, name in zip(prompts[4:], NAMES, strict=False)]
    finish(engine)
    for prompt, name, handle in zip(prompts[4:], NAMES, handles, strict=False):
        packed = load_model(folders.get(name or "", folder), base=base)  # type: ignore[arg-type]
        assert handle.tokens == Engine(packed, trained).generate([prompt], GREEDY)[0].tokens


def test_a_conversation_may_be_an_adapters(folder: Path, folders: dict[str, Path]) -> None:
    engine = mixed(folder, folders)
    sessions = [ChatSession(engine, GREEDY, adapter=name) for name in NAMES]
    assert len({"".join(delta.text for delta in session.reply("a")) for session in sessions}) == len(NAMES)


def test_an_unknown_name_is_refused_with_the_known_ones(folder: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"no adapter 'poet'(.|\n)*known: train, glm-4\.5, short, long"):
        mixed(folder, folders).submit([5], GREEDY, "poet")


@pytest.mark.parametrize("name", ["train", "long"])
def test_an_adapter_that_is_not_finite_is_refused(folder: Path, folders: dict[str, Path], tmp_path: Path, name: str
                                                  ) -> None:
    """In a batch it would be in the rows of the others."""
    broken = shutil.copytree(folders[name], tmp_path / "broken") / ADAPTER_WEIGHTS
    tensors = read_tensors(broken)
    next(iter(tensors.values())).view(-1)[3] = float("nan")
    write_tensors(broken, tensors)
    with pytest.raises(CheckpointError, match="not finite"):
        mixed(folder, {"poet": broken.parent})


def test_a_model_is_no_adapter(folder: Path) -> None:
    with pytest.raises(InputError, match="adapter poet: a model, and not an adapter"):
        mixed(folder, {"poet": folder})


@pytest.mark.parametrize(("name", "said"), [("nope", "adapter poet: no such folder"), ("", "adapter poet: no adapter")])
def test_a_folder_without_an_adapter_is_called_so(folder: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        mixed(folder, {"poet": tmp_path / name})
    assert error.value.fix == "give the folder of one that was tuned with method=lora or prefix"


def test_a_model_with_an_adapter_in_use_takes_no_others(folder: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="give the model that all were trained beside"):
        mixed(folders["short"], {"poet": folders["train"]})
    with pytest.raises(InputError, match="give the model that all were trained beside"):
        mixed(folders["train"], {"poet": folders["short"]}, base="nf4")


def test_a_model_with_a_merged_adapter_takes_others(folder: Path, folders: dict[str, Path],
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    engine = mixed(folders["train"], {"poet": folders["glm-4.5"]})
    assert "adapter-1 was trained beside other weights" in capsys.readouterr().err
    assert len(list(adapted(engine.model))) == 4


def test_an_adapter_of_another_context_is_refused_or_given_it(folder: Path, tmp_path: Path) -> None:
    longer = {"length": 200, "method": "linear"}
    save_adapter(attach(load_model(folder), LoraSettings(), seed=0), tmp_path / "far", folder,
                 context=KeptContext.parse(longer))
    with pytest.raises(InputError, match="adapter far was trained with a longer context"):
        mixed(folder, {"far": tmp_path / "far"})
    assert mixed(folder, {"far": tmp_path / "far"}, context=ContextSettings.parse(longer)).max_length == 200


def test_only_other_weights_are_told(folder: Path, folders: dict[str, Path], make_model: Callable[..., Decoder],
                                     tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_model()
    other.norm.weight.data += 1
    save_model(other, tmp_path / "other")
    Adapters(load_model(folder), folders, beside=folder)
    assert "note" not in capsys.readouterr().err
    Adapters(load_model(tmp_path / "other"), folders, beside=tmp_path / "other")
    assert capsys.readouterr().err.count("was trained beside other weights") == len(folders)


def test_an_adapter_of_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    description = tmp_path / "odd" / ADAPTER_CONFIG
    write_json(description, {"peft_type": "HEADWATER_PREFIX", "num_layers": 9, "num_key_value_heads": 2, "head_dim": 8})
    with pytest.raises(CheckpointError, match="a prefix for 9 layers"):
        mixed(folder, {"odd": description.parent})


def test_kept_prompts_are_kept_by_adapter(folder: Path, folders: dict[str, Path], alone: dict[str | None, Engine]
                                          ) -> None:
    engine, prompt = mixed(folder, folders, kept_bytes=1 << 24), list(range(20, 90))
    engine._prefill.piece = 32
    for turn in range(2):
        for name in NAMES:
            handle = engine.submit(prompt, GREEDY, name)
            finish(engine)
            assert handle.tokens == alone[name].generate([prompt], GREEDY)[0].tokens
            assert handle.cached_tokens == 64 * turn
