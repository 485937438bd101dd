"""An iteration's answers, sampled from the policy as it is, judged, measured by all models and kept to be learned from.

An iteration is a function of the weights at its start, the seed and its number. What was sampled is kept on the disk
until no checkpoint needs it: a run that goes on in its middle learns from the same answers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from headwater.align.advantages import explained_variance, generalised_advantages, token_rewards
from headwater.align.answers import Answer, sample_answers, usable
from headwater.align.iterations import write_iterations
from headwater.align.ppo import Numbers, Ppo
from headwater.align.ppo_settings import PpoMethod
from headwater.align.prompts import Prompt
from headwater.align.rewards import Scored, whitened
from headwater.artifacts import write_json
from headwater.errors import CheckpointError, HeadwaterError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.model import Decoder, ModelConfig
from headwater.model.tensors import read_tensors, write_tensors
from headwater.progress import say
from headwater.tokenizer import Tokenizer
from headwater.train.batches import IGNORE, Batch, Learner, OnPolicy, lay, permutation
from headwater.train.packing import PrefixSample, as_read, as_sample, first_fit
from headwater.train.state import steps_kept

SLOTS = 64
"""Answers that are sampled at once."""
TOLD = 20
"""Iterations of a run that a line is said of."""


class Held(NamedTuple):
    """An iteration's answers."""

    ids: list[list[int]]
    """Prompt and answer."""
    begins: list[int]
    """Where the answer begins."""
    numbers: Numbers
    """By the place of a token in all `ids`, one after the other."""

    @property
    def starts(self) -> list[int]:
        """The place of each one's first token, and of what is behind the last."""
        return np.concatenate([[0], np.cumsum([len(one) for one in self.ids])]).astype(int).tolist()


class Reading(NamedTuple):
    """How answers are asked for and laid into rows."""

    prompts: Sequence[Prompt]
    tokenizer: Tokenizer
    config: ModelConfig
    length: int
    """Tokens of a row, and of a prompt with its answer."""
    rows: int
    """That are computed at once."""
    seed: int


class Rollouts(OnPolicy):
    """The minibatches of all iterations, in order."""

    def __init__(self, reading: Reading, scorer: Callable[[Sequence[Answer]], Scored], objective: Ppo,
                 out: Path) -> None:
        """out: the stage's folder."""
        self.reading, self.scorer, self.objective, self.out = reading, scorer, objective, out
        self.method, self.folder = objective.method, out / "rollouts"
        self._now: tuple[int, Held] | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Of an iteration."""
        return self.method.steps_each

    def begin(self, learner: Learner) -> None:
        self.learner = learner

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        iteration, within = divmod(step, self.method.steps_each)
        if self._now is None or self._now[0] != iteration:
            self._now = iteration, self._read(iteration) if within else self._made(iteration)
            self.objective.numbers = Numbers(*(one.to(self._device) for one in self._now[1].numbers))
        self.objective.policy_learns = step >= self.method.critic_warmup
        return self._minibatch(self._now[1], iteration, *divmod(within, self.method.minibatches))

    @property
    def _device(self) -> torch.device:
        return next(self.objective.parameters()).device

    def _minibatch(self, held: Held, iteration: int, turn: int, number: int) -> Batch:
        """Every so manieth answer, in an order of this reading's own, in as many rows as they need."""
        order = permutation(len(held.ids), self.reading.seed, iteration, turn).tolist()
        chosen = order[number :: self.method.minibatches] or [order[number % len(order)]]
        reading, starts = self.reading, held.starts
        samples = {}
        for one in chosen:
            ids, begin = held.ids[one], held.begins[one]
            mask = [False] * begin + [True] * (len(ids) - begin)
            samples[one] = as_sample(PrefixSample(*as_read((ids, mask), reading.config)), starts[one],
                                     reading.config.position_axes)
        rows = first_fit(chosen, [len(ids) for ids in held.ids], reading.length)
        return lay([[samples[one] for one in row] for row in rows], reading.length, pad=reading.tokenizer.pad,
                   axes=reading.config.position_axes)

    def _made(self, iteration: int) -> Held:
        for later in self.folder.glob("[0-9]*.*"):  # of a run that went further, and is not gone on with from there
            if int(later.stem) > iteration:
                later.unlink()
        facts: dict[str, Any] = {"iteration": iteration + 1, "beta": self._beta(iteration)}
        begun = time.perf_counter()
        answers = self._sampled(iteration)
        sampled = time.perf_counter()
        scored, left_out = self.scorer(answers), Counter[str]()
        kept = [place for place, good in enumerate(usable(answers, scored.total, left_out)) if good]
        if not kept:
            raise HeadwaterError(f"of {len(answers):,} answers of iteration {iteration + 1} none can be learned from: "
                                 + ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common()),
                                 where="ppo", fix="let the model answer its prompts by hand; raise max_tokens, or tune "
                                 "it on dialogues first")
        facts |= _told(answers, scored, kept, left_out)
        judged = time.perf_counter()
        held = self._measured([answers[place] for place in kept], scored.total[kept], iteration, facts)
        facts["seconds"] = {"sampling": sampled - begun, "scoring": judged - sampled,
                            "measuring": time.perf_counter() - judged}
        self._keep(iteration, held, facts)
        if iteration % max(1, self.method.iterations // TOLD) == 0:
            say(f"iteration {iteration + 1}: reward {facts['reward']['total']['mean']:.3f}, KL {facts['kl']:.3f} nats, "
                f"{facts['length']:.1f} tokens an answer, {len(answers) - len(kept):,} of {len(answers):,} left out")
        return held

    def _sampled(self, iteration: int) -> list[Answer]:
        """In turn an answer to every prompt, in an order of its own every time round."""
        method, count = self.method, len(self.reading.prompts)
        numbers = range(iteration * method.answers, (iteration + 1) * method.answers)
        orders = {turn: permutation(count, self.reading.seed, turn) for turn in {number // count for number in numbers}}
        asked = [self.reading.prompts[orders[number // count][number % count]] for number in numbers]
        return sampled(self.learner.whole(), self.reading, asked, method, seed=iteration)

    def _measured(self, answers: list[Answer], scores: Tensor, iteration: int, facts: dict[str, Any]) -> Held:
        """What all models say of every token, in the first reading's own rows; what it was worth."""
        ids, begins = [one.whole for one in answers], [len(one.prompt.ids) for one in answers]
        total, method = sum(map(len, ids)), self.method
        held = Held(ids, begins, Numbers(*torch.zeros(4, total)))
        policy, entropies, reference, values = every = torch.zeros(4, total)
        for number in range(method.minibatches):
            for batch in self._minibatch(held, iteration, 0, number).split(self.reading.rows):
                found = self.learner.ask(self.objective.measured, batch.to(self._device))
                every[:, batch.places[batch.targets != IGNORE]] = torch.stack(found).cpu()
        spans = [slice(start + begin - 1, start + len(one) - 1)
                 for start, begin, one in zip(held.starts, begins, ids)]
        ratios, before, real = (_padded(one, spans) for one in (policy - reference, values, torch.ones(total)))
        real = real > 0
        if method.whiten != "no":
            scores = whitened(scores, shift_mean=method.whiten == "standard")
        rewards = token_rewards(scores, ratios, real, facts["beta"])
        gains = generalised_advantages(rewards, before, real, method.gamma, method.lam)
        returns = gains + before
        facts |= {"kl": float(ratios.sum() / len(ids)), "entropy": float(_padded(entropies, spans)[real].mean()),
                  "explained_variance": explained_variance(before[real], returns[real]),
                  "advantage_variance": float(gains[real].var(correction=0))}
        gains[real] = whitened(gains[real])
        for given, span_values in ((held.numbers.advantages, gains), (held.numbers.returns, returns)):
            for span, own, count in zip(spans, span_values, real.sum(1).tolist()):
                given[span] = own[:count]
        return held._replace(numbers=held.numbers._replace(log_probabilities=policy, values=values))

    def _beta(self, iteration: int) -> float:
        return self.method.kl.at(iteration, self.method.iterations)

    def _keep(self, iteration: int, held: Held, facts: dict[str, Any]) -> None:
        """The facts last: with them an iteration is there. Those that no checkpoint goes on with are only told of."""
        lengths = torch.tensor([len(one) for one in held.ids], dtype=torch.int32)
        write_tensors(self.folder / f"{iteration:05d}.safetensors", {
            "ids": torch.tensor([token for one in held.ids for token in one], dtype=torch.int32), "lengths": lengths,
            "begins": torch.tensor(held.begins, dtype=torch.int32), **held.numbers._asdict()})
        write_json(self.folder / f"{iteration:05d}.json", facts)
        write_iterations(self.out, self.method.steps_each)
        first = min(steps_kept(self.out / "checkpoints"), default=0) // self.method.steps_each
        for path in self.folder.glob("[0-9]*.safetensors"):
            if int(path.stem) < first:
                path.unlink()

    def _read(self, iteration: int) -> Held:
        path = self.folder / f"{iteration:05d}.safetensors"
        if not path.exists():
            raise CheckpointError(f"the run stopped in the middle of iteration {iteration + 1}, whose answers are gone",
                                  where=path, fix="delete the checkpoints folder to start this stage again")
        tensors = read_tensors(path)
        ids = [part.tolist() for part in tensors["ids"].split(tensors["lengths"].tolist())]
        return Held(ids, tensors["begins"].tolist(), Numbers(*(tensors[name] for name in Numbers._fields)))


def sampled(model: Decoder, reading: Reading, prompts: Sequence[Prompt], method: PpoMethod, seed: int) -> list[Answer]:
    """An answer to each prompt. seed: one of many below the reading's own."""
    engine = Engine(model, reading.tokenizer, max_batch=min(SLOTS, len(prompts)), max_length=reading.length)
    params = SamplingParams(max_tokens=method.max_tokens, temperature=method.temperature)
    draw = int(np.random.default_rng([reading.seed, seed]).integers(1 << 62))
    return [one for [one] in sample_answers(engine, prompts, 1, params, draw)]


def _told(answers: list[Answer], scored: Scored, kept: list[int], left_out: Counter[str]) -> dict[str, Any]:
    """Of an iteration's answers: rewards in all and by part, over those that count; what was left out; an example."""
    parts = {"total": scored.total, **scored.parts}
    of_parts = {name: [one for one in part[kept].tolist() if one == one] for name, part in parts.items()}
    first = answers[kept[0]]
    return {"answers": len(answers), "learned_from": len(kept), "left_out": dict(left_out),
            "reward": {name: {"mean": float(np.mean(part)), "spread": float(np.std(part))}
                       for name, part in of_parts.items() if part},
            "length": float(np.mean([len(answers[place].ids) for place in kept])),
            "example": {"messages": first.messages, "reward": float(scored.total[kept[0]])}}


def _padded(values: Tensor, spans: list[slice]) -> Tensor:
    """[N,T] of values [places], 0 behind an answer's end."""
    return pad_sequence([values[span] for span in spans], batch_first=True)
