"""Breaks when a checkpoint tuned with another chat format is used without a word, or one that fits is refused."""

import json
import shutil

import pytest

from headwater.errors import InputError
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.chat import JINJA
from headwater.tokenizer.fitting import record_template, require_template

CHATML = ("{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
          "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
LLAMA_2 = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
           "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
           "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
           "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
           "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
           "{% if loop.index0 == 0 and system_message != false %}"
           "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
           "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
           "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
           "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
CHATGLM3 = ("{% for message in messages %}{% if loop.first %}[gMASK]sop<|{{ message['role'] }}|>\n "
            "{{ message['content'] }}{% else %}<|{{ message['role'] }}|>\n {{ message['content'] }}{% endif %}"
            "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
GLM4 = ("[gMASK]<sop>{% for item in messages %}{% if item['tools'] is defined %}<|system|>\n{% endif %}"
        "{% if item['content'] %}<|{{ item['role'] }}|>{{ item['metadata'] }}\n{{ item['content'] }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
"""As the official checkpoints record them."""
OFFICIAL = {"LLaMA 2": LLAMA_2, "ChatGLM3": CHATGLM3, "GLM-4": GLM4, "GLM-4 json": GLM4}


@pytest.fixture
def recorded(folders, tmp_path):
    """Copies of a family's folder with another chat template recorded."""
    def copy(family, template, name="copy", **more):
        folder = shutil.copytree(folders[family], tmp_path / f"{family}-{name}")
        said = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**said, "chat_template": template, **more}))
        return Tokenizer.load(folder), folder

    return copy


@pytest.fixture
def ours(trained, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(trained.to_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": JINJA}))
    return trained, tmp_path


@pytest.mark.parametrize("family", OFFICIAL)
def test_what_the_official_checkpoints_record_fits(recorded, family):
    require_template(*recorded(family, OFFICIAL[family]))


@pytest.mark.parametrize("family", ["Baichuan", "Baichuan 2", "ChatGLM-6B", "ChatGLM2"])
def test_a_checkpoint_that_records_nothing_fits(families, folders, family):
    require_template(families[family], folders[family])


def test_our_own_fits(ours):
    require_template(*ours)


@pytest.mark.parametrize("family", ["Baichuan 2", "ChatGLM3", "GLM-4 json"])
def test_another_template_is_refused_with_the_marks_that_are_absent(recorded, family):
    tokenizer, folder = recorded(family, CHATML)
    with pytest.raises(InputError, match=r"has no special <\|im_end\|>, <\|im_start\|>") as told:
        require_template(tokenizer, folder)
    assert str(folder) in str(told.value)
    assert "force_template=true" in str(told.value)
    require_template(tokenizer, folder, force=True)


def test_a_template_that_differs_by_a_word_is_refused(ours):
    tokenizer, folder = ours
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": JINJA.replace("<|end|>", "")}))
    with pytest.raises(InputError, match=r"writes '<s><\|user\|>ask<\|assistant\|>say"):
        require_template(tokenizer, folder)


@pytest.mark.parametrize("broken", ["{% for %}", "{{ nothing.at.all }}", "{{ raise_exception('no') }}", "{{ 1 / 0 }}"])
def test_a_template_that_cannot_be_rendered_is_refused(ours, broken):
    tokenizer, folder = ours
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": broken}))
    with pytest.raises(InputError, match="cannot be rendered"):
        require_template(tokenizer, folder)


def test_a_template_cannot_reach_beyond_its_sandbox(ours):
    tokenizer, folder = ours
    reach = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": reach}))
    with pytest.raises(InputError, match="cannot be rendered"):
        require_template(tokenizer, folder)


def test_the_name_that_tuning_recorded_decides(recorded):
    tokenizer, folder = recorded("ChatGLM3", CHATGLM3, chat_format="ChatGLM2")
    with pytest.raises(InputError, match="tuned with 'ChatGLM2', and 'ChatGLM3' would be used"):
        require_template(tokenizer, folder)


def test_what_tuning_records_is_the_template_it_used(recorded):
    tokenizer, folder = recorded("Baichuan 2", CHATML)
    record_template(tokenizer, folder)
    said = json.loads((folder / "tokenizer_config.json").read_text())
    assert (said["chat_format"], "chat_template" in said) == ("Baichuan 2", False)
    require_template(Tokenizer.load(folder), folder)


def test_a_template_that_fits_stays_recorded(ours):
    tokenizer, folder = ours
    record_template(tokenizer, folder)
    assert json.loads((folder / "tokenizer_config.json").read_text()) == {"chat_template": JINJA,
                                                                         "chat_format": tokenizer.chat.name}


def test_llama_2s_format_can_be_recorded_by_its_name(folders, tmp_path):
    folder = shutil.copytree(folders["LLaMA 2"], tmp_path / "base")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "chat_format": "LLaMA 2"}')
    assert Tokenizer.load(folder).chat.name == "LLaMA 2"
