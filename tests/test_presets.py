import pytest
import torch

from headwater import plan
from headwater.errors import InputError
from headwater.model import Decoder
from headwater.model.families import family_for
from headwater.presets import PRESETS, preset

PUBLISHED = {
    "LLaMA-7B": 6_738_415_616, "LLaMA-13B": 13_015_864_320, "LLaMA-33B": 32_528_943_616, "LLaMA-65B": 65_285_660_672,
    "Llama-2-70B": 68_976_648_192, "Llama-3-8B": 8_030_261_248, "Mistral-7B-v0.2": 7_241_732_096,
    "Baichuan-7B": 7_000_559_616, "Baichuan-13B": 13_264_901_120,
    "Baichuan2-7B": 7_505_973_248, "Baichuan2-13B": 13_896_668_160, "ChatGLM-6B": 6_173_286_400,
    "ChatGLM2-6B": 6_243_584_000, "ChatGLM3-6B": 6_243_584_000, "GLM-4-9B": 9_399_951_360,
    "GLM-4-9B-Chat-1M": 9_483_857_920, "GLM-4-9B-0414": 9_400_279_040, "GLM-10B": 9_880_682_496,
    "GLM-10B-Chinese": 9_879_633_920, "GLM-2B": 1_920_122_880, "GLM-Large-Chinese": 355_659_776,
    "GLM-515M": 514_632_960}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_parameter_counts_are_the_published_integers(name, count):
    assert plan.parameters(preset(name)) == count


@pytest.mark.parametrize("name", PRESETS)
def test_the_plan_counts_what_the_decoder_holds(name):
    config = preset(name)
    with torch.device("meta"):
        model = Decoder(config)
    assert plan.parameters(config) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_the_official_form_says_all_of_it(name):
    config = preset(name)
    family = family_for(config)
    values = family.config_to(config)
    assert family.config_from(values) == config
    assert (config.layout or "llama") == family.LAYOUT


def test_names_are_found_in_any_case_and_fields_may_be_changed():
    assert preset("baichuan2-7b", num_hidden_layers=2).num_hidden_layers == 2
    with pytest.raises(InputError, match="did you mean Baichuan2-13B"):
        preset("Baichuan2-13")
