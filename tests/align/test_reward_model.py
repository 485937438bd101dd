import pytest
import torch

from headwater.align import reward_model
from headwater.align.reward_model import REWARD, RewardModel, judged_ids
from headwater.errors import CheckpointError, InputError
from headwater.model.checkpoint import load_model
from headwater.model.task_head import TaskHead
from headwater.tokenizer import Tokenizer

FAMILIES = ["baichuan2_13b", "chatglm2_6b", "chatglm_6b", "glm4_0414", "glm_10b", "llama2_gqa"]


def rewarding(folder):
    model = load_model(folder)
    head = TaskHead("regression", model.config.hidden_size, [REWARD]).draw(0)
    return RewardModel(model, head, Tokenizer.load(folder))


def said(*texts):
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]


def test_a_reward_is_read_at_the_end_of_the_last_answer(small_model):
    judge = rewarding(small_model)
    ids = judged_ids(said("How long?", "482 km.", "And the lake?", "120 m."), judge.tokenizer)
    assert judge.tokenizer.spell(ids).endswith("120 m.<|end|>")
    [found] = judge.scores([ids])
    with torch.no_grad():
        state = judge.model.hidden(torch.tensor([ids]))[0, -1]
    assert found == pytest.approx(float(judge.head.weight[0].detach() @ state), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_dialogues_of_every_family_read_together_do_not_see_each_other(shared, trained, family, monkeypatch):
    model = load_model(shared / "vectors" / family, dtype=torch.float32)
    judge = RewardModel(model, TaskHead("regression", model.config.hidden_size, [REWARD]).draw(0), trained)
    marks = [model.config.prefix_ids[0], model.config.prefix_ids[-1]] if model.config.prefix_ids else []
    draw = torch.Generator().manual_seed(0)
    dialogues = [[*torch.randint(20, 60, (length,), generator=draw).tolist(), *marks, 8, 9] for length in (9, 3, 17, 3)]
    together = judge.scores(dialogues)
    monkeypatch.setattr(reward_model, "AT_ONCE", 1)
    assert torch.allclose(together, judge.scores(dialogues), atol=1e-4)


def test_a_calibrated_head_tells_calibrated_numbers(small_model):
    judge = rewarding(small_model)
    ids = judged_ids(said("How long?", "482 km."), judge.tokenizer)
    plain = judge.scores([ids])
    judge.head.mean.fill_(0.5)
    judge.head.spread.fill_(2.0)
    assert torch.allclose(judge.scores([ids]), 2 * plain + 0.5)


def test_what_cannot_be_judged_is_refused(small_model, tmp_path):
    judge = rewarding(small_model)
    with pytest.raises(InputError, match="without an answer"):
        judged_ids(said("How long?"), judge.tokenizer)
    with pytest.raises(InputError, match="the reward model reads 64"):
        judge.scores([[1] * 65])
    TaskHead("classification", 64, ["a", "b"]).save(tmp_path, small_model, 64)
    with pytest.raises(CheckpointError, match="no reward model"):
        RewardModel.load(tmp_path)
