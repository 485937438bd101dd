"""Retrieval from long texts: a passkey, a needle, one of several needles, a line among lines. Every test also asks an
oracle, that looks the answer up in the prompt, and a guesser: the first must score 100 %, the second what chance gives,
else the test is wrong and not the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from headwater.corpus.deduplication.sentences import split
from headwater.errors import InputError
from headwater.tokenizer import Tokenizer

Language = Literal["en", "zh"]
Task = Literal["passkey", "needle", "several", "lines"]
SEVERAL = 4
"""Needles of the task `several`, with one asked for."""
DIGITS = 5
"""Of every answer."""
ANSWER_TOKENS = 12
"""Room for it; the prompt is so much shorter than the length asked for."""


class Question(NamedTuple):
    """One prompt of ids, and what it asks for."""

    prompt: list[int]
    answer: str
    length: int
    """Tokens asked for, of the prompt and its answer."""
    depth: float
    """Where the needle that is asked for stands, as a share of the text before the question."""
    task: Task
    language: Language


Answerer = Callable[[Sequence[Question]], list[str]]
"""What is said to each prompt."""


@dataclass(frozen=True)
class Wording:
    """The sentences of a task in a language; {key} is asked about, {value} is the answer."""

    needle: str
    question: str
    begin: str
    """How the answer begins, so that a model that only goes on with a text answers too."""


WORDINGS: dict[tuple[Task, Language], Wording] = {
    ("passkey", "en"): Wording("The pass key is {value}. Remember it. {value} is the pass key.",
                               "What is the pass key?", "The pass key is"),
    ("passkey", "zh"): Wording("口令是{value}。请记住它。{value}就是口令。", "口令是什么？", "口令是"),
    ("needle", "en"): Wording("The best thing to do in {key} is to count {value} lamps.",
                              "How many lamps is it best to count in {key}?",
                              "The best thing to do in {key} is to count"),
    ("needle", "zh"): Wording("在{key}最值得做的事是数{value}盏灯。", "在{key}最值得数多少盏灯？",
                              "在{key}最值得做的事是数"),
    ("several", "en"): Wording("The magic number of {key} is {value}.", "What is the magic number of {key}?",
                               "The magic number of {key} is"),
    ("several", "zh"): Wording("{key}的幸运数字是{value}。", "{key}的幸运数字是什么？", "{key}的幸运数字是"),
    ("lines", "en"): Wording("line {key}: REGISTER_CONTENT is {value}", "What is the REGISTER_CONTENT in line {key}?",
                             "line {key}: REGISTER_CONTENT is"),
    ("lines", "zh"): Wording("第{key}行：登记内容为{value}", "第{key}行的登记内容是什么？", "第{key}行：登记内容为"),
}
_VALUES = range(10 ** (DIGITS - 1), 10**DIGITS)
_PLACES = {"en": ("Lisbon", "Harbin", "Quito", "Oslo", "Chengdu", "Nairobi", "Riga", "Kyoto", "Bergen", "Lima"),
           "zh": ("里斯本", "哈尔滨", "基多", "奥斯陆", "成都", "内罗毕", "里加", "京都", "卑尔根", "利马")}


class Haystack:
    """Sentences of real text, encoded once; what stands around the needles."""

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, language: Language) -> None:
        """Raises `InputError` where the texts hold no sentence."""
        self.tokenizer, self.language = tokenizer, language
        self.gap = " " if language == "en" else ""
        found = [words for text in texts for one in split(text) if (words := text[one.start : one.end].strip())]
        if not found:
            raise InputError("the texts hold no sentence", where="haystack", fix="give texts of some length")
        self.sentences = [tokenizer.encode(sentence + self.gap) for sentence in found]
        self.sizes = np.array([len(one) for one in self.sentences])

    def fill(self, size: int, start: int) -> list[list[int]]:
        """Sentences from number `start` on, over again at the end, of at most `size` tokens together. One that alone is
        longer is left out."""
        chosen: list[list[int]] = []
        used = 0
        for step in range(10 * size):
            sentence = self.sentences[(start + step) % len(self.sentences)]
            if len(sentence) > size:
                continue
            if used + len(sentence) > size:
                break
            chosen.append(sentence)
            used += len(sentence)
        return chosen


def questions(task: Task, haystack: Haystack, *, lengths: Sequence[int], depths: Sequence[float], each: int,
              seed: int) -> Iterator[Question]:
    """`each` questions for every length and depth. Raises `InputError` for lengths that hold the question alone."""
    for length in lengths:
        for depth in depths:
            for number in range(each):
                draw = np.random.default_rng([seed, length, round(1000 * depth), number])
                yield question(task, haystack, length, depth, draw)


def question(task: Task, haystack: Haystack, length: int, depth: float, draw: np.random.Generator) -> Question:
    """One of `questions`."""
    return (_lines(haystack, length, depth, draw) if task == "lines" else
            _hidden(task, haystack, length, depth, draw))


def _hidden(task: Task, haystack: Haystack, length: int, depth: float, draw: np.random.Generator) -> Question:
    """The needle that is asked for stands at the last sentence boundary before its depth, others at any."""
    wording, encode = WORDINGS[task, haystack.language], haystack.tokenizer.encode
    count = SEVERAL if task == "several" else 1
    keys = [str(key) for key in draw.permutation(_PLACES[haystack.language])[:count]]
    values = [str(value) for value in draw.permutation(_VALUES)[:count]]
    needles = [encode(wording.needle.format(key=key, value=value) + haystack.gap)
               for key, value in zip(keys, values, strict=True)]
    tail = _tail(wording, haystack, keys[0])
    room = length - ANSWER_TOKENS - 1 - len(tail) - sum(map(len, needles))
    text = haystack.fill(room, int(draw.integers(len(haystack.sentences))))
    if not text:
        raise InputError(f"{length} tokens hold no sentence beside the question of task '{task}' in "
                         f"'{haystack.language}'", where="lengths",
                         fix=f"give longer ones, from about {2 * (length - room)} on, or other tasks")
    ends = np.cumsum([0, *map(len, text)])
    cuts = [int(np.searchsorted(ends, share * ends[-1], side="right")) - 1
            for share in (depth, *draw.random(count - 1))]
    ids = [haystack.tokenizer.bos]
    for number, sentence in enumerate([*text, []]):
        ids += [token for cut, needle in zip(cuts, needles, strict=True) if cut == number for token in needle]
        ids += sentence
    return Question([*ids, *tail], values[0], length, depth, task, haystack.language)


def _lines(haystack: Haystack, length: int, depth: float, draw: np.random.Generator) -> Question:
    """Long-eval: as many lines as fit, of which the one at `depth` is asked for."""
    wording, encode = WORDINGS["lines", haystack.language], haystack.tokenizer.encode
    keys, values = (draw.permutation(range(10**4, 10**5))[: length // 4].tolist() for _ in range(2))
    room = length - ANSWER_TOKENS - 1 - max(len(_tail(wording, haystack, str(key))) for key in keys[:50]) - DIGITS
    lines: list[list[int]] = []
    for key, value in zip(keys, values, strict=True):
        lines.append(encode(wording.needle.format(key=key, value=value) + "\n"))
        room -= len(lines[-1])
        if room < 0:
            lines.pop()
            break
    if len(lines) < 2:
        raise InputError(f"{length} tokens do not hold two lines and the question of task 'lines' in "
                         f"'{haystack.language}'", where="lengths", fix="give longer ones, or other tasks")
    asked = min(int(depth * len(lines)), len(lines) - 1)
    ids = [haystack.tokenizer.bos, *(token for line in lines for token in line)]
    return Question([*ids, *_tail(wording, haystack, str(keys[asked]))], str(values[asked]), length, depth, "lines",
                    haystack.language)


def _tail(wording: Wording, haystack: Haystack, key: str) -> list[int]:
    return haystack.tokenizer.encode(f"\n{wording.question}\n{wording.begin}".format(key=key))


def right(question: Question, said: str) -> bool:
    """Whether the first number of what is said is the answer."""
    found = re.search(r"\d+", said)
    return found is not None and found[0] == question.answer


def oracle(tokenizer: Tokenizer) -> Answerer:
    """Looks for the sentence that the question is about in the prompt's text."""
    def look(question: Question) -> str:
        wording, text = WORDINGS[question.task, question.language], tokenizer.decode(question.prompt)
        body, _, asked = text.rpartition("\n")[0].rpartition("\n")
        key = _match(wording.question, asked)
        needle = wording.needle.replace("{key}", key.get("key", "{key}"))
        return _match(needle, body).get("value", "")

    return lambda questions: [look(question) for question in questions]


def _match(form: str, text: str) -> dict[str, str]:
    """What stands for {key} and {value} of a sentence in the text."""
    pattern, seen = "", set()
    for part in re.split(r"(\{\w+\})", form):
        name = part[1:-1]
        if part.startswith("{") and name in seen:
            pattern += f"(?P={name})"
        elif part.startswith("{"):
            seen.add(name)
            pattern += f"(?P<{name}>\\d+)" if name == "value" else f"(?P<{name}>.+?)"
        else:
            pattern += re.escape(part)
    found = re.search(pattern, text)
    return found.groupdict() if found else {}


def guesser(seed: int) -> Answerer:
    """Says any number of the answer's form."""
    draw = np.random.default_rng(seed)
    return lambda questions: [str(draw.choice(_VALUES)) for _ in questions]
