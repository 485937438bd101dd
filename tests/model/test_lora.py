import json

import pytest
import torch
from torch.nn import functional as F

from headwater.errors import CheckpointError, InputError
from headwater.model import Decoder, ModelConfig, initialise
from headwater.model.adapters import (
    LoraSettings,
    adapted,
    attach,
    choice_of,
    load_adapter,
    merge,
    save_adapter,
    targets,
    unmerge,
)
from headwater.model.checkpoint import load_model, save_model
from headwater.model.convert import convert
from headwater.model.lora import Chosen, Lora, LowRank, Rows
from headwater.model.packed import pack_linears, packed_linears
from headwater.model.tensors import read_tensors, write_tensors
from headwater.train.recompute import recompute

FAMILIES = ["baichuan1_13b", "baichuan2_7b", "baichuan2_13b", "chatglm_6b", "chatglm2_6b", "chatglm3_6b", "glm4_0414",
            "glm4_9b", "glm_10b", "llama2_gqa"]
CONFIG = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2)
IDS = torch.arange(24).view(2, 12) % 64


def taught(model, seed=0):
    """The model with an adapter that has learned something."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith(".b"):
            parameter.data.normal_(0, 0.05, generator=generator)
    return model


@pytest.fixture
def model():
    return initialise(Decoder(CONFIG), 0).eval()


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_new_adapter_changes_nothing_and_learns_alone_in_every_family(shared, name):
    model = load_model(shared / "vectors" / name, dtype=torch.float32, mmap=False)
    ids = read_tensors(shared / "vectors" / name / "vectors.safetensors")
    ids = next(tensor for key, tensor in sorted(ids.items()) if key.endswith("input_ids"))[:2]
    with torch.no_grad():
        before, weights = model(ids), {key: one.clone() for key, one in model.named_parameters()}
        attach(model, LoraSettings(rank=2), seed=0)
        assert torch.equal(model(ids), before)
    found = model(ids)
    found[..., :-1, :].float().log_softmax(-1).mean().backward()
    learning = {key: one for key, one in model.named_parameters() if one.requires_grad}
    assert len(learning) == 2 * len(targets(model))
    assert all(one.grad is not None and one.grad.isfinite().all() for one in learning.values())
    assert any(one.grad.abs().max() > 0 for one in learning.values())
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    for key, one in model.named_parameters():
        assert one.requires_grad or torch.equal(one, weights[key.replace(".base.", ".")])
    with torch.no_grad():
        assert not torch.equal(model(ids), before)


@pytest.mark.parametrize("covers", ["all", "some"])
def test_gradients_are_those_of_the_formula(covers):
    torch.manual_seed(0)
    rows = [Rows(0, 5), Rows(5, 8), Rows(8, 12)] if covers == "all" else [Rows(2, 5), Rows(7, 9)]
    parts = {str(number): LowRank(one, 6, 2, dtype=torch.float64) for number, one in enumerate(rows)}
    lora = Lora(1.5, parts)
    for one in lora.parameters():
        torch.nn.init.normal_(one)
    x, weight = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True), torch.randn(12, 6, dtype=torch.float64)

    def plain():
        whole = weight.clone()
        for part in parts.values():
            whole = whole.index_add(0, torch.arange(part.rows.start, part.rows.stop), 1.5 * part.b @ part.a)
        return F.linear(x, whole)

    wished, found = plain(), lora(F.linear(x, weight), x)
    torch.testing.assert_close(found, wished)
    slope = torch.randn_like(wished)
    inputs = [x, *lora.parameters()]
    torch.testing.assert_close(torch.autograd.grad(found, inputs, slope), torch.autograd.grad(wished, inputs, slope))
    lora.in_place = False
    torch.testing.assert_close(torch.autograd.grad(lora(F.linear(x, weight), x), inputs, slope),
                               torch.autograd.grad(plain(), inputs, slope))


@pytest.mark.parametrize("again", ["none", "selective", "full"])
def test_gradients_beside_packed_weights_are_those_beside_the_floats_that_they_stand_for(again):
    packed = initialise(Decoder(CONFIG), 0)
    pack_linears(packed, head=False, form="nf4")
    whole = Decoder(CONFIG)
    whole.load_state_dict(packed.state_dict() | {
        f"{name}.weight": one.unpacked(torch.float32) for name, one in packed_linears(packed)}, strict=False)
    found = []
    for one in (packed, whole):
        taught(attach(one, LoraSettings(rank=2), seed=0))
        recompute(one, again if one is packed else "none")
        one(IDS).logsumexp(-1).sum().backward()
        found.append({name: parameter.grad for name, parameter in one.named_parameters() if parameter.requires_grad})
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_logits_and_gradients_are_those_of_peft(folder, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    theirs = peft.get_peft_model(
        transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager"),
        peft.LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]))
    torch.manual_seed(1)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    theirs.save_pretrained(tmp_path / "peft")
    ours = load_model(folder, mmap=False)
    load_adapter(ours, tmp_path / "peft", dtype=torch.float32)
    for one in ours.parameters():
        one.requires_grad_(False)
    for _, layer in adapted(ours):
        layer.adapters.requires_grad_(True)
    found, wished = ours(IDS), theirs(IDS).logits
    torch.testing.assert_close(found, wished, atol=1e-5, rtol=1e-4)
    for logits in (found, wished):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()).backward()
    wanted = {name.replace(".default", ""): one.grad for name, one in theirs.named_parameters() if "lora" in name}
    for official, target in targets(ours).items():
        part = ours.get_submodule(target.layer).adapters["default"].part(official.rpartition(".")[2])
        for kind, own in (("A", part and part.a), ("B", part and part.b)):
            gradient = wanted.pop(f"base_model.model.{official}.lora_{kind}.weight", None)
            assert (gradient is None) == (own is None)
            if own is not None:
                torch.testing.assert_close(own.grad, gradient, atol=1e-6, rtol=1e-3)
    assert not wanted


def test_peft_opens_what_is_written(folder, tmp_path):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    ours = taught(attach(load_model(folder), LoraSettings(rank=4, alpha=6, stabilised=True), seed=3))
    save_adapter(ours, tmp_path / "adapter", folder)
    theirs = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(folder),
                                            tmp_path / "adapter")
    torch.testing.assert_close(theirs(IDS).logits, ours(IDS), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["chatglm_6b", "chatglm2_6b", "baichuan2_7b", "llama2_gqa"])
@torch.no_grad()
def test_an_adapter_is_read_back_as_it_was(shared, tmp_path, name):
    base = shared / "vectors" / name
    model = taught(attach(load_model(base, dtype=torch.float32), LoraSettings(rank=2), seed=0))
    save_adapter(model, tmp_path / "adapter", base)
    again = load_model(base, dtype=torch.float32)
    load_adapter(again, tmp_path / "adapter")
    ids = read_tensors(base / "vectors.safetensors")
    ids = next(tensor for key, tensor in sorted(ids.items()) if key.endswith("input_ids"))[:2]
    assert torch.equal(model(ids), again(ids))
    merged = load_model(tmp_path / "adapter", dtype=torch.float32)
    assert not list(adapted(merged))
    torch.testing.assert_close(merged(ids), model(ids), atol=1e-4, rtol=1e-4)


def test_merging_changes_no_result_and_is_undone_bit_for_bit(model):
    before = {name: one.clone() for name, one in model.named_parameters()}
    taught(attach(model, LoraSettings(), seed=0))
    apart = model(IDS)
    kept = merge(model)
    assert not list(adapted(model))
    torch.testing.assert_close(model(IDS), apart, atol=1e-6, rtol=1e-5)
    unmerge(model, kept)
    assert torch.equal(model(IDS), apart)
    assert all(torch.equal(one, before[name.replace(".base.", ".")])
               for name, one in model.named_parameters() if ".adapters." not in name)


def test_every_row_of_a_batch_has_its_own_adapter(folder, tmp_path):
    for seed in (1, 2):
        save_adapter(taught(attach(load_model(folder), LoraSettings(rank=seed), seed=seed), seed),
                     tmp_path / str(seed), folder)
    each = [load_model(folder), load_model(tmp_path / "1"), load_model(tmp_path / "2")]
    wished = torch.cat([one(IDS[:1]) for one in each])
    model = load_model(folder)
    load_adapter(model, tmp_path / "1", "one")
    load_adapter(model, tmp_path / "2", "two")
    choice_of(model).now = Chosen(("one", "two"), torch.tensor([[False, False], [True, False], [False, True]]))
    torch.testing.assert_close(model(IDS[:1].expand(3, -1)), wished, atol=1e-5, rtol=1e-5)
    with choice_of(model).using(Chosen()):
        assert torch.equal(model(IDS), each[0](IDS))


def test_an_adapter_is_converted_into_a_plain_model(folder, tmp_path):
    model = taught(attach(load_model(folder), LoraSettings(), seed=0))
    save_adapter(model, tmp_path / "adapter", folder)
    convert(tmp_path / "adapter", tmp_path / "plain")
    torch.testing.assert_close(load_model(tmp_path / "plain")(IDS), model(IDS), atol=1e-5, rtol=1e-5)


def test_unknown_matrices_are_refused_with_the_nearest(model):
    with pytest.raises(InputError, match=r"no matrix 'q_prj'(.|\n)*did you mean q_proj"):
        attach(model, LoraSettings(targets=["q_prj"]), seed=0)


@pytest.mark.parametrize(("values", "words"), [
    ([1], "expected an object, found list"), ({"peft_type": "LORA"}, "does not name its model"),
    ({"base_model_name_or_path": "nope"}, "the adapter's model is not at 'nope'")])
def test_an_adapter_without_its_model_is_told_apart_from_one_whose_model_is_gone(tmp_path, values, words):
    (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


@pytest.mark.parametrize("key", ["r", "lora_alpha"])
def test_a_missing_number_is_called_missing(folder, tmp_path, key):
    save_adapter(attach(load_model(folder), LoraSettings(), seed=0), tmp_path / "adapter", folder)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != key}))
    with pytest.raises(CheckpointError, match=f"{key} is missing"):
        load_adapter(load_model(folder), tmp_path / "adapter")


@pytest.mark.parametrize(("change", "words"), [
    ({"alpha_pattern": {"q": 1}, "rank_pattern": {"v": 2}}, r"alpha_pattern {'q': 1} and rank_pattern {'v': 2} are"),
    ({"use_dora": True}, "use_dora True is not supported"), ({"peft_type": "IA3"}, "an adapter of peft_type 'IA3'"),
    ({"r": 0}, "r 0 is not a number"), ({"bias": "all"}, "bias 'all'"),
    ({"target_modules": ["q_proj"]}, r"disagree: model.layers.0.mlp.down_proj is here and not named(.|\n)* 9 more"),
    ({"target_modules": r".*\.mlp\..*"}, "0.self_attn.k_proj is here and not named"),
    ({"target_modules": "("}, "neither a list of names nor a pattern"), ({"target_modules": 5}, "neither a list"),
    ({"r": 4}, "r 4 is not the rank of the matrices"), ({"lora_alpha": 1e300}, "lora_alpha 1e\\+300 is not")])
def test_what_is_not_plain_lora_is_refused(folder, tmp_path, change, words):
    save_adapter(attach(load_model(folder), LoraSettings(), seed=0), tmp_path / "adapter", folder)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=words):
        load_adapter(load_model(folder), tmp_path / "adapter")


def test_tensors_that_the_configuration_names_must_be_there(folder, tmp_path):
    save_adapter(attach(load_model(folder), LoraSettings(), seed=0), tmp_path / "adapter", folder)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    write_tensors(weights, {name: one for name, one in read_tensors(weights).items() if "layers.1.mlp.up" not in name})
    with pytest.raises(CheckpointError, match=r"layers.1.mlp.up_proj is named and not here"):
        load_adapter(load_model(folder), tmp_path / "adapter")


@pytest.mark.parametrize("change", [{"target_modules": ["q_proj", "query_key_value"]}, {"target_modules": r".*q_proj"},
                                    {"target_modules": ["q_proj", "v_proj"], "exclude_modules": ["v_proj"]},
                                    {"target_modules": ["q_proj"], "layers_to_transform": [0]}])
def test_whatever_peft_targets_is_opened(folder, tmp_path, change):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    theirs = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(folder),
                                 peft.LoraConfig(r=3, **change))
    theirs.save_pretrained(tmp_path / "peft")
    model = load_model(folder)
    load_adapter(model, tmp_path / "peft")
    assert len(list(adapted(model))) == (1 if "layers_to_transform" in change else 2)


def test_an_adapter_of_another_model_is_refused(folder, tmp_path):
    other = initialise(Decoder(CONFIG.model_copy(update={"hidden_size": 16, "head_dim": 4, "rope_dims": 4})), 0)
    save_model(other, tmp_path / "other")
    save_adapter(attach(other, LoraSettings(), seed=0), tmp_path / "adapter", tmp_path / "other")
    model = load_model(folder)
    with pytest.raises(CheckpointError, match="the model asks for A"):
        load_adapter(model, tmp_path / "adapter")
    assert not list(adapted(model))
    tensors = read_tensors(tmp_path / "adapter" / "adapter_model.safetensors")
    write_tensors(tmp_path / "adapter" / "adapter_model.safetensors", {"lm_head.lora_A.weight": tensors.popitem()[1]})
    with pytest.raises(CheckpointError, match="of no matrix of this model"):
        load_adapter(model, tmp_path / "adapter")


def test_an_adapter_whose_model_is_gone_says_so(folder, tmp_path):
    save_adapter(attach(load_model(folder), LoraSettings(), seed=0), tmp_path / "adapter", folder)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"the adapter's model is not at '\.\./model'") as told:
        load_model(tmp_path / "adapter")
    assert f"no model in {folder} or " in told.value.what
    assert f"chat MODEL adapter={tmp_path / 'adapter'}" in told.value.fix


def test_an_adapter_beside_other_weights_is_told(folder, tmp_path, capsys):
    save_adapter(attach(load_model(folder), LoraSettings(), seed=0), tmp_path / "adapter", folder)
    load_model(tmp_path / "adapter")
    assert "other weights" not in capsys.readouterr().err
    save_model(initialise(Decoder(CONFIG), 1), folder)
    load_model(tmp_path / "adapter")
    assert "was trained beside other weights" in capsys.readouterr().err
