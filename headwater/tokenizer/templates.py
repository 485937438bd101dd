"""The official chat formats of LLaMA 2, Baichuan and ChatGLM to GLM-4, id for id as their own code writes them.

Where a family's marks are plain text ("[INST]", "[Round 1]"), a user can type them; only ids are out of reach.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence

from headwater.errors import InputError
from headwater.tokenizer.chat import ChatTemplate, Message, Part, TextEncoder


class RoundsTemplate(ChatTemplate):
    """A format of questions and answers in turn: every question opens the answer, so a conversation that ends with
    one reads the same with and without `add_generation_prompt`."""

    def _parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[Part]:
        system = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
        turns = messages[system is not None :]
        for number, message in enumerate(turns):
            expected = ("user", "assistant")[number % 2]
            if message["role"] != expected:
                raise InputError(f"{self.name} has questions and answers in turn: turn "
                                 f"{number + 1 + (system is not None)} has role {message['role']!r}, not {expected!r}",
                                 fix="begin with the user and alternate")
        if not turns:
            raise InputError(f"{self.name} needs a user's message, the conversation has none", fix="add one")
        if add_generation_prompt and turns[-1]["role"] != "user":
            raise InputError("the last message is the assistant's: there is nothing to answer",
                             fix="end with the user's message, or leave add_generation_prompt out")
        texts = [turn["content"] for turn in turns]
        yield from self._rounds(system, texts[0::2], texts[1::2])

    @abstractmethod
    def _rounds(self, system: str | None, questions: list[str], answers: list[str]) -> Iterator[Part]:
        """As many answers as questions, or one less."""


class Llama2Template(RoundsTemplate):
    """`<s>[INST] question [/INST] answer </s>` per round, each round encoded as one text (facebookresearch/llama,
    generation.py); the system message stands in the first question between <<SYS>> and <</SYS>>."""

    name = "LLaMA 2"
    jinja = ("{% set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' if messages[0].role == 'system' "
             "else '' %}{% for message in (messages[1:] if system else messages) %}{% if message.role == 'user' %}"
             "{{ bos_token + '[INST] ' + ((system if loop.first else '') + message.content) | trim + ' [/INST]' }}"
             "{% else %}{{ ' ' + message.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return (self._tokenizer.eos,)

    def _rounds(self, system: str | None, questions: list[str], answers: list[str]) -> Iterator[Part]:
        encode = self._tokenizer.encode
        for number, question in enumerate(questions):
            if number == 0 and system is not None:
                question = f"<<SYS>>\n{system}\n<</SYS>>\n\n{question}"
            text = f"[INST] {question.strip()} [/INST]"
            asked = encode(text)
            yield [self._tokenizer.bos], False
            if number == len(answers):
                yield asked, False
                return
            whole = encode(f"{text} {answers[number].strip()} ")
            shared = _common_prefix(asked, whole)
            yield whole[:shared], False
            yield [*whole[shared:], self._tokenizer.eos], True


class ChatGLMTemplate(RoundsTemplate):
    """ChatGLM-6B: "[Round n]" from 0, a first question bare, [gMASK] <sop> between prompt and answer, <eop> after it.

    All rounds but the last answer are one text, as the official code encodes them, and only the last answer is
    learned (ptuning/main.py): an answer inside the history has no end that could be learned.
    """

    name = "ChatGLM-6B"
    roles = ("user", "assistant")
    learns_every_answer = False
    first_round = 0
    line = "\n"
    bare_first_question = True

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return (self._tokenizer.eos,)

    def _rounds(self, system: str | None, questions: list[str], answers: list[str]) -> Iterator[Part]:
        history = answers[: len(questions) - 1]
        text = self._text(questions, history)
        yield self._framed(self._tokenizer.encode(text)), False
        if len(answers) == len(questions):
            yield [*self._tokenizer.encode(answers[-1]), self._tokenizer.eos], True

    def _text(self, questions: list[str], history: list[str]) -> str:
        if self.bare_first_question and not history:
            return questions[0]
        line = self.line
        asked = [f"[Round {number}]{line}问：{question}{line}答："
                 for number, question in enumerate(questions, self.first_round)]
        return "".join(text + answer + line for text, answer in zip(asked, history)) + asked[-1]

    def _framed(self, prompt: list[int]) -> list[int]:
        return [*prompt, self._marks["[gMASK]"], self._marks["<sop>"]]


class ChatGLM2Template(ChatGLMTemplate):
    """ChatGLM2-6B: [gMASK] sop first, "[Round n]" from 1, empty lines between, </s> after the answer."""

    name = "ChatGLM2"
    jinja = ("[gMASK]sop{% for message in messages %}{% if message.role == 'user' %}"
             "{{ '[Round ' ~ (loop.index0 // 2 + 1) ~ ']\\n\\n问：' ~ message.content ~ '\\n\\n答：' }}"
             "{% else %}{{ message.content + (eos_token if loop.last else '\\n\\n') }}{% endif %}{% endfor %}")
    first_round = 1
    line = "\n\n"
    bare_first_question = False

    def _framed(self, prompt: list[int]) -> list[int]:
        return [self._marks["[gMASK]"], self._marks["sop"], *prompt]


class Baichuan2Template(ChatTemplate):
    """The system text, then each message after its role's id (generation_utils.py); </s> ends the last answer.

    Between rounds stands no end, as in the official prompts. The official tuning asks for </s> there without
    writing it, which ids with a mask cannot say: inner answers are learned without their end.
    """

    name = "Baichuan 2"

    def __init__(self, tokenizer: TextEncoder, *, user: int, assistant: int) -> None:
        super().__init__(tokenizer)
        self._roles = {"user": user, "assistant": assistant}

        names = {index: piece for piece, index in self._marks.items()}
        self.jinja = (
            "{% for message in messages %}{% if message.role == 'user' %}" + names[user]
            + "{% elif message.role == 'assistant' %}" + names[assistant] + "{% endif %}{{ message.content }}"
            "{% if loop.last %}{% if message.role == 'assistant' %}{{ eos_token }}{% elif add_generation_prompt %}"
            + names[assistant] + "{% endif %}{% endif %}{% endfor %}")

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return (self._tokenizer.eos,)

    def _parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[Part]:
        for message in messages:
            role = message["role"]
            if role != "system":
                yield [self._roles[role]], False
            yield self._tokenizer.encode(message["content"]), role == "assistant"
        answered = bool(messages) and messages[-1]["role"] == "assistant"
        if add_generation_prompt and not answered:
            yield [self._roles["assistant"]], False
        elif answered and not add_generation_prompt:
            yield [self._tokenizer.eos], True


class BaichuanTemplate(Baichuan2Template):
    """Baichuan-13B-Chat: as Baichuan 2, without system messages."""

    name = "Baichuan"
    roles = ("user", "assistant")


class ChatGLM3Template(ChatTemplate):
    """[gMASK] sop, then per message its role's id, "metadata" and a newline, the content.

    A turn of the assistant ends with the mark of the role that speaks next, and the last one with </s>, as in the
    official tuning (finetune_hf.py). "tool" is another name of the role "observation".
    """

    name = "ChatGLM3"
    roles = ("system", "user", "assistant", "observation", "tool")
    has_tools = True
    opening: tuple[str, ...] = ("[gMASK]", "sop")
    # Metadata, a line's end and the content are texts of their own, so that the content begins with a space too.
    jinja = ("[gMASK]sop{% for message in messages %}"
             "<|{{ 'observation' if message.role == 'tool' else message.role }}|>"
             "{{ (message.metadata or '') + '\\n ' + message.content }}{% endfor %}"
             "{% if add_generation_prompt %}<|assistant|>{% elif messages[-1].role == 'assistant' %}{{ eos_token }}"
             "{% endif %}")

    def __init__(self, tokenizer: TextEncoder) -> None:
        super().__init__(tokenizer)
        self.spoken_ids = (self._marks["<|assistant|>"],)  # between segments of a turn: text, then a call, say

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return self._tokenizer.eos, self._marks["<|user|>"], self._marks["<|observation|>"]

    @property
    def _closing(self) -> int:
        return self._tokenizer.eos

    def _parts(self, messages: Sequence[Message], add_generation_prompt: bool) -> Iterator[Part]:
        yield [self._marks[mark] for mark in self.opening], False
        encode = self._tokenizer.encode
        spoken = False
        for message in messages:
            role = "observation" if message["role"] == "tool" else message["role"]
            yield [self._marks[f"<|{role}|>"]], spoken
            spoken = role == "assistant"
            tools = message.get("tools")
            content = message["content"] + (self._offer(tools) if tools else "")
            yield encode(message.get("metadata", "") + "\n") + encode(content), spoken
        if add_generation_prompt:
            yield [self._marks["<|assistant|>"]], False
        elif spoken:
            yield [self._closing], True

    def _offer(self, tools: list[dict[str, object]]) -> str:
        """What a system message says of its tools."""
        return "\n" + json.dumps(tools, indent=4, ensure_ascii=False)


class GLM4Template(ChatGLM3Template):
    """GLM-4: as ChatGLM3 with its own marks; the last answer ends with <|user|>, as in the official tuning."""

    name = "GLM-4"
    opening = ("[gMASK]", "<sop>")
    jinja = ("[gMASK]<sop>{% for message in messages %}"
             "<|{{ 'observation' if message.role == 'tool' else message.role }}|>"
             "{{ (message.metadata or '') + '\\n' + message.content }}{% endfor %}"
             "{% if add_generation_prompt %}<|assistant|>{% elif messages[-1].role == 'assistant' %}<|user|>"
             "{% endif %}")

    @property
    def _closing(self) -> int:
        return self._marks["<|user|>"]

    def _offer(self, tools: list[dict[str, object]]) -> str:
        return "".join(f"\n\n## {tool['name']}\n\n{json.dumps(tool, indent=4, ensure_ascii=False)}"
                       "\n在调用上述函数时，请使用 Json 格式表示调用的参数。" for tool in tools)


def _common_prefix(one: list[int], other: list[int]) -> int:
    for index, (left, right) in enumerate(zip(one, other)):
        if left != right:
            return index
    return min(len(one), len(other))
