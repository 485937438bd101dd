import pytest

from headwater.align.ppo_settings import KlSettings, PpoSettings
from headwater.errors import SettingsError


def parsed(**given):
    trainer = {"sequence_length": 256, **given.pop("trainer", {})}
    return PpoSettings.parse({"prompts": ["p.jsonl"], "rewards": {"rules": {"right": 1}}, "trainer": trainer, **given})


def test_the_price_of_leaving_the_reference_falls_as_it_is_told_to():
    linear, exponential = KlSettings(start=0.2, end=0.005), KlSettings(start=0.2, end=0.005, schedule="exponential")
    assert [linear.at(step, 3) for step in range(3)] == pytest.approx([0.2, 0.1025, 0.005])
    assert [exponential.at(step, 3) for step in range(3)] == pytest.approx([0.2, (0.2 * 0.005) ** 0.5, 0.005])
    assert KlSettings(start=0.1).at(7, 9) == 0.1
    assert linear.at(0, 1) == 0.2


def test_baichuan_2_as_its_report_says():
    found = parsed(preset="baichuan2")
    assert (found.iterations, found.clip, found.critic_warmup, found.kl.start, found.kl.end) == (350, 0.1, 20, .2, .005)
    optimizer = found.trainer.optimizer
    assert (optimizer.learning_rate, optimizer.schedule, optimizer.clip) == (5e-6, "constant", 0.5)
    assert found.trainer.epochs == 350


def test_llama_2_as_its_report_says():
    found = parsed(preset="llama2", iterations=200, kl={"start": 0.005})
    assert (found.answers, found.answers // found.minibatches, found.passes, found.clip) == (512, 64, 1, 0.2)
    assert (found.iterations, found.trainer.epochs, found.kl.start, found.whiten) == (200, 200, 0.005, "standard")
    optimizer = found.trainer.optimizer
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon, optimizer.weight_decay, optimizer.clip,
            optimizer.learning_rate) == (0.9, 0.95, 1e-5, 0.1, 1.0, 1e-6)


def test_settings_can_be_written_and_read_again():
    found = parsed(preset="llama2", trainer={"rows": 4})
    assert PpoSettings.parse(found.model_dump(mode="json", exclude_none=True)) == found


@pytest.mark.parametrize(("given", "told"), [
    ({"preset": "llama3"}, "llama2"), ({"minibatches": 80}, "64 answers are not enough for 80"),
    ({"critic_warmup": 400}, "leaves the policy none"), ({"trainer": {"steps": 7}}, "the steps follow"),
    ({"trainer": {"epochs": 7}}, "the steps follow"), ({"trainer": {"micro_rows": 2}}, "no effect on PPO"),
    ({"trainer": {"compile": "on"}}, "rows of many shapes"), ({"max_tokens": 256}, "no room for a prompt"),
    ({"lora": {"rank": 4}}, "no effect with method full"), ({"method": "lora", "critic": "r"}, "no effect with method"),
    ({"method": "lora", "trainer": {"recompute": "full"}}, "with the policy's adapter"),
    ({"kl": {"schedule": "exponential"}}, "no effect without an end"),
    ({"kl": {"start": 0.1, "end": 0.0, "schedule": "exponential"}}, "never comes to 0"),
    ({"rewards": {}}, "nothing judges"),
    ({"temperature": 0}, "above 0")])
def test_what_has_no_effect_is_refused(given, told):
    with pytest.raises(SettingsError, match=told):
        parsed(**given)
