"""Pictures of CogView 3 as a tool: against the pipeline itself, with folders that are none, out of time, given up."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import shutil
import socket
import threading

import pytest
import torch

from headwater.agent.images.cogview import Cogview, open_cogview
from headwater.agent.images.painter import TOKENS, CogviewSettings, Painter
from headwater.agent.offer import ToolsSettings, kinds_of
from headwater.agent.tool import ToolError
from headwater.errors import CheckpointError, InputError, MissingExtraError, SettingsError
from headwater.tokenizer.calls import Call, ChatGlm3Calls, Glm4Calls, OwnCalls
from headwater.tokenizer.calls.reply import CODE
from tests.agent.conftest import Scripted, agent, heard
from tests.agent.images.conftest import PATCH, SCALE, SIZE

# Not imported before all tests are collected: it brings Triton, which those of the GPU's kernels have interpret them.
if importlib.util.find_spec("diffusers") is None:
    pytest.skip("diffusers is not installed", allow_module_level=True)

PROMPT = "a small boat under a red sky"


def settings(checkpoint, **more):
    return CogviewSettings.parse({"checkpoint": checkpoint, "steps": 3, "device": "cpu", **more})


def drawn(tool, prompt=PROMPT):
    async def one():
        return await tool.call("cogview", {"prompt": prompt})

    return asyncio.run(one())


def opened(file):
    from PIL import Image as Pillow

    return Pillow.open(file)


def pixels(png):
    return list(opened(io.BytesIO(png)).convert("RGB").tobytes())


@pytest.fixture
def damaged(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "damaged")


@pytest.fixture
def stepwise(monkeypatch):
    """A denoising step waits until it is let go; what it does in between is the test's."""
    from diffusers import CogView3PlusTransformer2DModel

    forward = CogView3PlusTransformer2DModel.forward
    begun, go = threading.Event(), threading.Event()
    steps = []

    def waiting(self, *args, **more):
        steps.append(1)
        begun.set()
        assert go.wait(20), "nobody let the step go"
        return forward(self, *args, **more)

    monkeypatch.setattr(CogView3PlusTransformer2DModel, "forward", waiting)
    return steps, begun, go


@pytest.mark.parametrize(("guidance", "width"), [(7.0, SIZE), (1.0, SIZE + SCALE * PATCH)])
def test_is_the_pipelines_own_picture_of_the_same_seed(checkpoint, guidance, width):
    from diffusers import CogView3PlusPipeline

    pipeline = CogView3PlusPipeline.from_pretrained(checkpoint, local_files_only=True)
    theirs = pipeline(PROMPT, width=width, height=SIZE, num_inference_steps=3, guidance_scale=guidance,
                      generator=torch.Generator().manual_seed(5), output_type="np").images[0]
    ours = drawn(open_cogview(settings(checkpoint, seed=5, guidance=guidance, width=width, height=SIZE)))
    picture = opened(io.BytesIO(ours.images[0].data))
    assert (picture.format, picture.size, ours.images[0].media_type) == ("PNG", (width, SIZE), "image/png")
    assert pixels(ours.images[0].data) == (theirs * 255).round().astype("uint8").flatten().tolist()
    assert f"{width} x {SIZE}, seed 5" in ours.text
    assert not ours.failed


def test_a_seed_gives_the_same_picture_and_none_another_whose_seed_is_told(checkpoint):
    own = open_cogview(settings(checkpoint))
    first, second = drawn(own), drawn(own)
    assert first.images != second.images
    seed = int(first.text.split("seed ")[1].split(")")[0])
    seeded = open_cogview(settings(checkpoint, seed=seed))
    assert drawn(seeded).images == first.images == drawn(seeded).images
    assert drawn(seeded, "a wide lake").images != first.images


def test_loads_without_a_connection(checkpoint, monkeypatch):
    def refused(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert drawn(open_cogview(settings(checkpoint))).images


def test_pictures_of_several_conversations_are_drawn_one_after_the_other(checkpoint, stepwise):
    steps, begun, go = stepwise
    painter = Painter(settings(checkpoint, seed=1))

    async def both():
        asked = [asyncio.create_task(Cogview(painter).call("cogview", {"prompt": PROMPT})) for _ in range(2)]
        assert await asyncio.to_thread(begun.wait, 20)
        await asyncio.sleep(0.05)
        assert len(steps) == 1
        go.set()
        return await asyncio.gather(*asked)

    first, second = asyncio.run(both())
    assert first.images == second.images
    assert len(steps) == 6


def test_a_cancelled_picture_ends_with_its_step_and_the_next_one_is_drawn(checkpoint, stepwise):
    steps, begun, go = stepwise
    painter = Painter(settings(checkpoint, seed=1, steps=50))

    async def give_up():
        asked = asyncio.create_task(painter.draw(PROMPT))
        waiting = asyncio.create_task(painter.draw(PROMPT))
        assert await asyncio.to_thread(begun.wait, 20)
        for task in (asked, waiting):
            task.cancel()
        await asyncio.gather(asked, waiting, return_exceptions=True)
        assert asked.cancelled()
        assert waiting.cancelled()
        go.set()
        return await painter.draw(PROMPT)

    assert asyncio.run(give_up()).png
    assert len(steps) == 1 + 50


def test_a_picture_that_takes_too_long_is_given_up_between_steps(checkpoint, stepwise):
    steps, _, go = stepwise
    go.set()
    with pytest.raises(ToolError, match="given up after 1 of 3 steps"):
        drawn(open_cogview(settings(checkpoint, seconds=1e-9)))
    assert len(steps) == 1


def test_the_loops_own_budget_ends_a_picture_too(checkpoint, stepwise, ask):
    steps, _, go = stepwise
    tool = open_cogview(settings(checkpoint, steps=50))
    model = Scripted(Call("cogview", {"prompt": PROMPT}), "It could not be drawn.")
    heard(agent(model, tool, tool_seconds=0.2).run(ask))
    assert "took longer than 0.2 seconds" in model.read[1][-1]["content"]
    go.set()
    tool._painter._one_at_a_time.shutdown(wait=True)
    assert len(steps) <= 1


@pytest.mark.parametrize(("form", "free_text"), [(Glm4Calls, True), (Glm4Calls, False), (OwnCalls, False)])
def test_a_models_call_shows_the_user_a_picture(checkpoint, ask, form, free_text):
    model = Scripted(Call("cogview", {CODE if free_text else "prompt": PROMPT}), "Here it is.", format=form)
    events = heard(agent(model, open_cogview(settings(checkpoint, seed=3, free_text=free_text))).run(ask))
    observed = next(event.observation for event in events if hasattr(event, "observation"))
    assert observed.images == drawn(open_cogview(settings(checkpoint, seed=3))).images
    assert "was shown to the user" in model.read[1][-1]["content"]


def test_glm4_is_told_of_it_in_a_section_of_its_own_and_writes_the_description_alone(checkpoint):
    tool = open_cogview(settings(checkpoint, free_text=True))
    form = Glm4Calls(tool.definitions)
    assert "## cogview\n\nDraws a picture" in form.system("")["content"]
    assert form.write(Call("cogview", {CODE: PROMPT})) == PROMPT


def test_stands_beside_chatglm3s_interpreter(checkpoint):
    tool = open_cogview(settings(checkpoint))
    assert "cogview" in json.dumps(ChatGlm3Calls(tool.definitions).system("")["tools"])


@pytest.mark.parametrize("prompt", ["", " \n"], ids=["empty", "blank"])
def test_an_empty_description_is_told_to_the_model(checkpoint, prompt):
    with pytest.raises(ToolError, match="empty"):
        drawn(open_cogview(settings(checkpoint)), prompt)


def test_a_description_may_fill_the_text_encoder_and_no_more(checkpoint):
    tool = open_cogview(settings(checkpoint, steps=1))
    from transformers import T5Tokenizer

    tokenizer = T5Tokenizer.from_pretrained(checkpoint / "tokenizer")
    longest = next(text for count in range(TOKENS) for text in ("a " * count + "b", "a " * count + "bb")
                   if len(tokenizer(text).input_ids) == TOKENS)
    assert drawn(tool, longest).images
    with pytest.raises(ToolError, match=f"{TOKENS + 1} tokens, {TOKENS} are allowed"):
        drawn(tool, longest + "b")


def test_a_script_that_the_text_encoder_does_not_know_is_sent_back(checkpoint):
    with pytest.raises(ToolError, match="write it in English"):
        drawn(open_cogview(settings(checkpoint)), "红色的天空下有一条小船，水很宽。")


def test_half_a_surrogate_pair_is_no_crash(checkpoint):
    assert drawn(open_cogview(settings(checkpoint)), f"{PROMPT} \ud83d").images


def test_numbers_that_overflow_are_no_black_picture(checkpoint, monkeypatch):
    from diffusers import CogVideoXDDIMScheduler

    step = CogVideoXDDIMScheduler.step
    monkeypatch.setattr(CogVideoXDDIMScheduler, "step", lambda *args, **more: (step(*args, **more)[0] * torch.inf,))
    with pytest.raises(InputError, match="not finite after step 1 of 3") as error:
        drawn(open_cogview(settings(checkpoint)))
    assert "dtype=bfloat16" in error.value.fix


def test_half_precision_is_what_the_parts_compute_in(checkpoint):
    painter = Painter(settings(checkpoint, dtype="bfloat16", seed=1))
    asyncio.run(painter.draw(PROMPT))
    assert {painter._pipeline.transformer.dtype, painter._pipeline.vae.dtype} == {torch.bfloat16}


def test_a_closed_painter_gives_up_and_says_so(checkpoint, stepwise):
    _, begun, go = stepwise
    tool = open_cogview(settings(checkpoint))

    async def closed():
        asked = [asyncio.create_task(tool.call("cogview", {"prompt": PROMPT})) for _ in range(2)]
        assert await asyncio.to_thread(begun.wait, 20)
        await tool.close()
        await tool.close()
        go.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [str(one) for one in asyncio.run(closed())] == ["image generation has ended"] * 2
    with pytest.raises(ToolError, match="has ended"):
        drawn(tool)


def test_a_conversations_end_leaves_a_shared_painter(checkpoint):
    painter = Painter(settings(checkpoint))
    asyncio.run(Cogview(painter).close())
    assert drawn(Cogview(painter)).images


def refused(folder, kind, match):
    with pytest.raises(kind, match=match) as error:
        open_cogview(settings(folder))
    assert error.value.fix


def index_with(folder, **more):
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def test_a_missing_folder_is_named(tmp_path):
    refused(tmp_path / "nowhere", InputError, "nowhere: there is no such folder")


def test_a_folder_without_an_index_is_no_pipeline(damaged):
    (damaged / "model_index.json").unlink()
    refused(damaged, CheckpointError, "model_index.json: the file is missing")


def test_an_index_that_is_no_json_is_told(damaged):
    (damaged / "model_index.json").write_text("{")
    refused(damaged, InputError, "not valid JSON")


def test_another_pipeline_is_named(damaged):
    index_with(damaged, _class_name="StableDiffusionPipeline")
    refused(damaged, InputError, "'StableDiffusionPipeline', CogView 3's is 'CogView3PlusPipeline'")


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "transformer", "vae", "scheduler"])
def test_a_part_of_the_folders_own_code_is_refused_and_not_run(damaged, part):
    ran = damaged / "ran"
    (damaged / part / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: ...\n")
    index_with(damaged, **{part: ["own", "Own"]})
    refused(damaged, InputError, f"its {part} is ")
    assert not ran.exists()


@pytest.mark.parametrize("part", ["text_encoder", "transformer", "vae"])
def test_pickled_weights_are_refused_and_not_opened(damaged, part):
    weights = next((damaged / part).glob("*.safetensors"))
    weights.with_name("pytorch_model.bin").write_bytes(weights.read_bytes())
    weights.unlink()
    refused(damaged, InputError, "its weights are pickled")


def test_pickled_weights_beside_safetensors_are_left_alone(damaged):
    for part, name in (("text_encoder", "pytorch_model.bin"), ("vae", "diffusion_pytorch_model.bin")):
        (damaged / part / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert drawn(open_cogview(settings(damaged))).images


def test_a_part_without_weights_is_incomplete(damaged):
    next((damaged / "vae").glob("*.safetensors")).unlink()
    refused(damaged, CheckpointError, "there are no weights")


def test_truncated_weights_are_the_users_to_mend(damaged):
    weights = next((damaged / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-64])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        drawn(open_cogview(settings(damaged)))


@pytest.mark.parametrize(("name", "pixels"), [("width", SIZE + 4), ("height", 8 * SCALE * PATCH * 2)],
                         ids=["no-multiple", "too-large"])
def test_a_size_that_the_checkpoint_has_not_is_refused_at_once(checkpoint, name, pixels):
    with pytest.raises(InputError, match=f"a {name} of {pixels} pixels, this checkpoint draws multiples of 8 up to 64"):
        Painter(settings(checkpoint, **{name: pixels}))


def test_a_gpu_that_is_not_there_is_refused_at_once(checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU"):
        Painter(settings(checkpoint, device="cuda"))


def test_without_its_libraries_the_extra_is_named(checkpoint, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("headwater.agent.images.checkpoint.find_spec",
                        lambda name: None if name == "diffusers" else found(name))
    with pytest.raises(MissingExtraError, match=r"needs diffusers\n.*headwater\[images\]"):
        Painter(settings(checkpoint))


def test_a_mistyped_setting_is_refused(checkpoint):
    with pytest.raises(SettingsError, match="did you mean 'guidance'"):
        settings(checkpoint, gidance=3)


def test_conversations_that_are_offered_pictures_share_one_checkpoint(checkpoint):
    kinds = kinds_of(ToolsSettings.parse({"cogview": {"checkpoint": str(checkpoint), "steps": 1}}))

    async def of_two():
        one, other = [await kinds["cogview"].open() for _ in range(2)]
        await one.close()
        return await other.call("cogview", {"prompt": PROMPT})

    assert list(kinds) == ["cogview"]
    assert asyncio.run(of_two()).images[0].data.startswith(b"\x89PNG")
    with pytest.raises(SettingsError, match="checkpoint"):
        ToolsSettings.parse({"cogview": {}})
