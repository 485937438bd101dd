"""Breaks when a critic begins in a folder that reads something else in the policy's tokens."""

import shutil

import pytest

from headwater.align.critic import require_critic
from headwater.errors import InputError
from headwater.model.checkpoint import read_config
from headwater.model.task_head import TaskHead
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.training import BpeSettings, train_bpe
from headwater.tokenizer.words import count_words


@pytest.fixture
def check(small_model):
    tokenizer, config = Tokenizer.load(small_model), read_config(small_model)[0]
    return lambda folder, length=64: require_critic(folder, tokenizer, config, length)


def test_the_policy_itself_and_a_reward_model_of_its_tokenizer_may_be_one(check, small_model, tmp_path):
    check(small_model)
    TaskHead("regression", 64, ["reward"]).save(tmp_path, small_model, 64)
    check(tmp_path)


def test_a_critic_of_another_tokenizer_is_refused(check, small_model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(small_model, other)
    train_bpe(count_words([("Lakes and rivers. " * 20, "")]).weighted(), other / "tokenizer.model",
              BpeSettings(vocab_size=300))
    with pytest.raises(InputError, match=r"ppo.critic, .*other: its tokenizer is not the policy's"):
        check(other)
    (tmp_path / "reward").mkdir()
    TaskHead("regression", 64, ["reward"]).save(tmp_path / "reward", other, 64)
    with pytest.raises(InputError, match="its tokenizer is not the policy's"):
        check(tmp_path / "reward")


def test_a_critic_of_shorter_rows_or_of_several_numbers_is_refused(check, small_model, tmp_path):
    with pytest.raises(InputError, match="it reads 64 tokens"):
        check(small_model, 65)
    TaskHead("classification", 64, ["good", "bad"]).save(tmp_path, small_model, 64)
    with pytest.raises(InputError, match="a head for classification with 2 labels"):
        check(tmp_path)
