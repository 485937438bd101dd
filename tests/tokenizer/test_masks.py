"""The text under the loss mask is what the assistant says and what ends it, whatever is said, in every chat format."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.tokenizer import Tokenizer
from headwater.tokenizer.templates import Llama2Template

ATTACKS = ["<|user|>", "<|end|>", "</s>", "<s>", "[INST]", "<<SYS>>", "[/INST]", "[gMASK]", "<sop>", "sop", "<eop>",
           "<reserved_106>", "<reserved_103>", "<|assistant|>", "<|call|>", "<|tools|>", "<|observation|>",
           "<|system|>", "<|endoftext|>", "[Round 1]", "问：", "答："]
WORDS = st.sampled_from(["hello", "你好", "482", "ok?", "{}", "\"", "x", *ATTACKS])
LETTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), min_size=1, max_size=4)
ANYTHING = st.lists(st.one_of(WORDS, LETTERS, st.sampled_from([" ", "\n", "  "])), min_size=1, max_size=6).map("".join)
PLAIN = st.lists(st.sampled_from(["hello", "你好", "482", "ok?", "{}", "x", *(
    one for one in ATTACKS if one.isascii())]), min_size=1, max_size=6).map(" ".join)
"""For families that normalise a text before they encode it."""
TEXTS = {"Baichuan": PLAIN, "ChatGLM-6B": PLAIN}


def said_by(messages, role="assistant"):
    return [message for message in messages if message["role"] == role]


def headwater(messages):
    """Every answer and its end mark; a call is opened by a mark, which is learned too."""
    for message in said_by(messages):
        if message.get("metadata"):
            yield "", "<|call|>"
            yield f"{message['metadata']}\n{message['content']}", "<|end|>"
        else:
            yield message["content"], "<|end|>"


def llama_2(messages):
    """Every answer as the official code writes it: without blanks around it, with one behind it."""
    for message in said_by(messages):
        yield f"{message['content'].strip()} ", "</s>"


def only_the_last(messages, *, end):
    """ChatGLM-6B and ChatGLM2 learn the last answer; those before it stand in the prompt, as in the official tuning."""
    if messages[-1]["role"] == "assistant":
        yield messages[-1]["content"], end


def baichuan(messages):
    """Every answer; only the last one has an end."""
    for message in said_by(messages):
        yield message["content"], "</s>" if message is messages[-1] else None


def by_the_next_role(messages, *, end, gap):
    """Every answer behind its line of metadata, and the mark of the role that speaks next; the last one has `end`."""
    for message, following in pairwise([*messages, None]):
        if message["role"] == "assistant":
            yield (f"{message.get('metadata', '')}\n{gap}{message['content']}",
                   f"<|{following['role']}|>" if following else end)


LEARNED = {
    "headwater": headwater, "LLaMA 2": llama_2, "ChatGLM-6B": partial(only_the_last, end="<eop>"),
    "ChatGLM2": partial(only_the_last, end="</s>"), "Baichuan": baichuan, "Baichuan 2": baichuan,
    "ChatGLM3": partial(by_the_next_role, end="</s>", gap=" "),  # a SentencePiece model puts a space before a text
    "GLM-4": partial(by_the_next_role, end="<|user|>", gap=""),
    "GLM-4 json": partial(by_the_next_role, end="<|user|>", gap="")}
"""What each format documents as learned: (text, end mark) of each answer."""


@st.composite
def dialogues(draw, template, texts):
    """Anything a format can say: a system message, tools, calls with their results, an open question at the end."""
    texts = texts.filter(str.strip)
    messages = []
    if "system" in template.roles and draw(st.booleans()):
        messages.append({"role": "system", "content": draw(texts)})
        if template.has_tools and draw(st.booleans()):
            messages[0]["tools"] = [{"name": "sum", "description": draw(texts)}]
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(texts)})
        for _ in range(draw(st.integers(0, 2)) if template.has_tools else 0):
            arguments = json.dumps({"of": draw(texts)}, ensure_ascii=False)
            messages.append({"role": "assistant", "content": arguments, "metadata": "sum"})
            messages.append({"role": "observation", "content": draw(texts)})
        messages.append({"role": "assistant", "content": draw(texts)})
    return messages[:-1] if draw(st.booleans()) and messages[-2]["role"] == "user" else messages


def spoken(tokenizer, rendered):
    """The text under the mask, cut behind every special id and where the mask ends."""
    part = []
    for index, learned in [*zip(rendered.ids, rendered.loss_mask), (None, False)]:
        if learned and index not in tokenizer.marks:
            part.append(index)
        elif learned or part:
            yield tokenizer.decode(part), tokenizer.piece(index) if learned else None
            part = []


def check(tokenizer, template, family, messages):
    rendered = template.render(messages)
    assert list(spoken(tokenizer, rendered)) == list(LEARNED[family](messages))
    plain = template.render([{**message, "content": "x", **({"tools": [{"name": "sum"}]} if "tools" in message else {})}
                             for message in messages])
    marks, expected = ([index for index in one.ids if index in tokenizer.marks] for one in (rendered, plain))
    assert marks == expected  # nothing that is typed became a special id


@pytest.mark.parametrize("family", LEARNED)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_mask_holds_what_the_assistant_says_and_its_end(families, trained, family, data):
    tokenizer = trained if family == "headwater" else families[family]
    messages = data.draw(dialogues(tokenizer.chat, TEXTS.get(family, ANYTHING)))
    check(tokenizer, tokenizer.chat, family, messages)


@pytest.fixture(scope="module")
def llama_real(shared):
    return Tokenizer.load(shared / "tokenizers" / "llama-32000")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_mask_on_the_real_vocabulary_of_llama(llama_real, data):
    template = Llama2Template(llama_real)
    check(llama_real, template, "LLaMA 2", data.draw(dialogues(template, ANYTHING)))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_mask_on_the_real_vocabulary_of_chatglm3(chatglm3_real, data):
    check(chatglm3_real, chatglm3_real.chat, "ChatGLM3", data.draw(dialogues(chatglm3_real.chat, ANYTHING)))
