"""The engine as a language model of lm-evaluation-harness."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, hash_string, make_disjoint_window

from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.tokenizer import Message

CONVERSATION = "\x02conversation\x03"
"""What a prompt begins with that is not text but messages, as JSON: a template's special ids cannot be told as text."""
ANSWER_TOKENS = 256
"""Most tokens of an answer where a task does not say."""


class EngineLM(LM):
    """Likelihoods and greedy answers as the harness's own `hf` model gives them, through our engine.

    A text is read between what the family's own tokenizer puts around it (`Tokenizer.frame`). As `hf` does, what is too
    long for the model is cut from the left; `cut` holds the harness's hashes of such prompts.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine, self.tokenizer = engine, engine.tokenizer
        self.cut: set[str] = set()

    @property
    def tokenizer_name(self) -> str:
        return "headwater"

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as one string, which `encode` reads again. A last assistant message is the answer's beginning
        where no generation prompt is asked for."""
        return CONVERSATION + json.dumps([chat_history, add_generation_prompt], ensure_ascii=False)

    @property
    def most(self) -> int:
        """Tokens that the model reads and writes together."""
        return self.engine.max_length

    def length(self, prompt: str) -> int:
        """In tokens, of a text in its frame or a conversation."""
        return len(self.encode(prompt))

    def encode(self, prompt: str) -> list[int]:
        """Ids of a text in its frame, or of a conversation."""
        if not prompt.startswith(CONVERSATION):
            return self._framed([prompt])[0]
        history, turn = json.loads(prompt.removeprefix(CONVERSATION))
        spoken = "" if turn else history.pop()["content"]
        if history[0]["role"] == "system" and "system" not in self.tokenizer.chat.roles and len(history) > 1:
            # What the families without such messages are told stands before the first question.
            instruction, question, *rest = history
            history = [{"role": "user", "content": f"{instruction['content']}{question['content']}"}, *rest]
        messages: list[Message] = [{"role": one["role"], "content": one["content"]} for one in history]
        return self.tokenizer.chat.render(messages, add_generation_prompt=True).ids + self.tokenizer.encode(spoken)

    def _framed(self, texts: list[str]) -> list[list[int]]:
        before, after = self.tokenizer.frame
        return [[*before, *ids, *after] for ids in self.tokenizer.encode_batch(texts)]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Of each (context, continuation): its log-likelihood in nats, and whether greedy decoding would say it."""
        texts = [request.args for request in requests]
        pairs = self._pairs(texts)
        most = self._most_read
        self.cut.update(hash_string(text) for (text, _), (context, continuation) in zip(texts, pairs, strict=True)
                        if len(context) + len(continuation) > most)
        return self._likelihoods(pairs)

    def _pairs(self, texts: list[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Ids of contexts and continuations. A continuation is what the ids of both together have behind those of the
        context, whose last spaces belong to it; each text is encoded once. Behind a conversation, or a frame that
        closes, it is a text of its own."""
        apart = bool(self.tokenizer.frame.after)
        moved = [_spaces_moved(*pair) for pair in texts]
        plain = sorted({text for context, continuation in moved for text in (context, context + continuation)})
        ids = dict(zip(plain, self._framed(plain), strict=True))
        pairs = []
        for context, continuation in moved:
            if context.startswith(CONVERSATION):
                pairs.append((self.encode(context), self.tokenizer.encode(continuation)))
            elif not context:
                pairs.append(self._alone(continuation))
            elif apart:
                pairs.append((ids[context], self.tokenizer.encode(continuation)))
            else:
                pairs.append((ids[context], ids[context + continuation][len(ids[context]) :]))
        return pairs

    def _alone(self, text: str) -> tuple[list[int], list[int]]:
        """Of a text without context, behind the token that begins texts."""
        ids, before = self.tokenizer.encode(text), self._before
        return (ids[:1], ids[1:]) if ids[:1] == [before] else ([before], ids)

    @property
    def _before(self) -> int:
        return self.tokenizer.bos

    @property
    def _most_read(self) -> int:
        """Tokens of a prompt and what comes behind it, of which the last is never read."""
        return self.engine.max_length + 1

    def _likelihoods(self, pairs: list[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        most, kept = self._most_read, []
        for context, continuation in pairs:
            if len(continuation) >= most:
                raise InputError(f"a choice of {len(continuation)} tokens; the model reads {self.engine.max_length}",
                                 fix="give a longer context to this model, or leave this benchmark out")
            kept.append((context[max(0, len(context) + len(continuation) - most) :], continuation))
        return [(found.logprob, found.greedy) for found in self.engine.log_likelihoods(kept)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Of each whole text, every token once, behind as much before it as the model reads."""
        pairs: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(self.encode(request.args[0]), self._before, self.engine.max_length, 1)
            pairs += [make_disjoint_window(window) for window in windows]
            owners += [number] * (len(pairs) - len(owners))
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._likelihoods(pairs), strict=True):
            totals[owner] += logprob
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy answers (or drawn ones, where a task says so) up to a stop text, an end mark or a number of tokens.

        Raises `InputError` where the answer alone may fill the model's context.
        """
        prompts, params = [], []
        for request in requests:
            prompt, wanted = request.args[0], normalize_gen_kwargs(request.args[1], ANSWER_TOKENS)
            params.append(_params(wanted))
            room = self.engine.max_length - wanted["max_gen_toks"]
            if room <= 0:
                raise InputError(f"answers of {wanted['max_gen_toks']} tokens are asked for; the model reads "
                                 f"{self.engine.max_length}", fix="give it a longer context, or set max_tokens")
            ids = self.encode(prompt)
            if len(ids) > room:
                self.cut.add(hash_string(prompt))
            prompts.append(ids[-room:])
        with self._ending():
            answers = self.engine.generate(prompts, params)
        return [_before_stops(self.tokenizer.decode(answer.tokens), one.stop)
                for answer, one in zip(answers, params, strict=True)]


    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Answers end where `hf` ends them: at the end of text and the chat format's own marks, not at other special
        ids, which decode to nothing."""
        own, chat = self.engine.stop_ids, self.tokenizer.chat_or_none
        self.engine.stop_ids = frozenset((self.tokenizer.eos, *(chat.stop_ids if chat else ())))
        try:
            yield
        finally:
            self.engine.stop_ids = own


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """As the harness does: a word's space is part of its token."""
    kept = context if context.startswith(CONVERSATION) else context.rstrip()
    return kept, context[len(kept) :] + continuation


def _params(wanted: dict[str, Any]) -> SamplingParams:
    """Raises `InputError` for a way of sampling that the engine does not have."""
    known = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}
    if strange := set(wanted) - known:
        raise InputError(f"a task asks for {', '.join(sorted(strange))}", fix=f"known: {', '.join(sorted(known))}")
    return SamplingParams(max_tokens=wanted["max_gen_toks"], stop=tuple(filter(None, wanted["until"])),
                          temperature=wanted["temperature"] if wanted["do_sample"] else 0.0,
                          top_p=wanted.get("top_p", 1.0), top_k=wanted.get("top_k", 0))


def _before_stops(text: str, stops: Iterable[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text
