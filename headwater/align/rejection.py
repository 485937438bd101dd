"""Rejection sampling: a model answers every prompt many times, the best answers are what a model is tuned on."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field, model_validator
from rich.table import Table

from headwater.align.answers import Answer, Tally, read_answers, sample_answers, tell, usable
from headwater.align.best_of import Curves, curves
from headwater.align.prompts import Prompt, read_prompts
from headwater.align.rewards import RewardSettings, Scorer, scorer
from headwater.align.tuning import Tuning, TuningSettings, last_answer
from headwater.artifacts import read_json, read_jsonl, write_json, write_jsonl
from headwater.dialogues.reading import Dialogue, render_each
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.model import Decoder
from headwater.model.checkpoint import load_model
from headwater.progress import print_result, track
from headwater.settings import Change, InputPath
from headwater.tokenizer import Tokenizer
from headwater.train.learning import check
from headwater.train.objective import next_token
from headwater.train.settings import TrainerSettings

ANSWERS, BEST, BEFORE, FOUND, SCALES = "answers.jsonl", "best.jsonl", "before.json", "rejection.json", "scales.json"
AT_ONCE = 256
"""Answers that are sampled, judged and written together: a kill loses at most these."""
VALIDATION_ANSWERS = 4
"""To each prompt whose rewards are compared before and after."""


class RejectionSettings(TuningSettings):
    """Who answers what how often, how the answers are judged, and what is tuned on the best of them."""

    sampler: InputPath | None = None
    """The model that answers: a larger one, of which the tuned one learns. The tuned one itself when not set."""
    prompts: list[InputPath] = Field(min_length=1)
    """JSON lines of {"messages": [...]} that end with what the user says."""
    validation: list[InputPath] = []
    """Prompts that are not learned from: mean rewards before and after."""
    earlier: list[InputPath] = []
    """`best.jsonl` of earlier rounds: their answers compete with the new ones, by the present rewards."""
    answers: int = Field(default=16, gt=0)
    """To each prompt."""
    sampling: SamplingParams = SamplingParams(temperature=1.2, max_tokens=128)
    """LLaMA 2 found temperatures of 1.2 to 1.3 best for 10 to 100 answers (2307.09288, section 3.2.3)."""
    rewards: RewardSettings = Field(default={})  # type: ignore[assignment]  # refused in its own words
    tune: bool = True
    """Whether a model is tuned on the best answers; else they are written alone."""
    trainer: TrainerSettings | None = None
    max_batch: Annotated[int, Change.HOW] = Field(default=64, gt=0)
    """Answers that are sampled at once."""

    @model_validator(mode="after")
    def _goes_together(self) -> RejectionSettings:
        for name in ("seed", "logprobs"):
            if getattr(self.sampling, name) is not None:
                raise ValueError(f"sampling.{name} has no effect: answers differ by the seed of the stage")
        if self.tune:
            if self.trainer is None:
                raise ValueError("setting 'trainer' is required: give trainer.epochs or trainer.steps, or tune=false")
            check(self)  # type: ignore[arg-type]
        elif wrong := sorted(self.model_fields_set & {"method", "lora", "trainer", "validation"}):
            raise ValueError(f"{wrong[0]} has no effect with tune=false")
        return self

    @property
    def device(self) -> str:
        if self.trainer is not None:
            return self.trainer.training_device()
        return "cuda" if torch.cuda.is_available() else "cpu"


def run(settings: RejectionSettings, out: Path) -> dict[str, float]:
    """Write `answers.jsonl`, all with their rewards; `best.jsonl`, dialogues to be tuned on; `rejection.json`; and the
    tuned model. Figures: rewards of all and of the best, curves' ends, mean rewards before and after."""
    tuning = Tuning(settings) if settings.tune else None  # type: ignore[arg-type]
    score = scorer(settings.rewards, settings.device, kept=out / SCALES)
    tally: Tally = Counter()
    prompts, found = _sampled(settings, score, out)
    each = [found[start : start + settings.answers] for start in range(0, len(found), settings.answers)]
    kept = [[one for one, good in zip(own, _usable(own, tally)) if good] for own in each]
    tell(tally, len(found))
    best = best_of([one for own in kept for one in own] + _earlier(settings, score))
    if not best:
        raise InputError("no prompt has an answer that can be learned from", where=out / ANSWERS,
                         fix="raise sampling.max_tokens, lower sampling.temperature, or ask a model that has learned "
                         "to converse")
    write_jsonl(out / BEST, [_dialogue(one) for one in best])
    told = curves([[one.reward for one in own] for own in kept], settings.answers)
    facts = {"prompts": len(prompts), "answers": len(found), "left_out": dict(sorted(tally.items())),
             "without_usable_answer": sum(not own for own in kept), "best": len(best),
             "from_earlier_rounds": sum(one.earlier for one in best),
             "curves": told._asdict(), "best_reward": sum(one.reward for one in best) / len(best)}
    print_result(_curve_table(told))
    figures = {key: float(value) for key, value in facts.items() if isinstance(value, int | float)}
    figures |= {"max_reward": told.max[-1], "mean_reward": told.mean[-1], "median_reward": told.median[-1]}
    if tuning is not None:
        trained, measured = _tune(settings, tuning, score, best, out)
        facts |= measured
        figures |= trained | {f"{when}.{name}": value for when, values in measured.items()
                              for name, value in values.items()}
    write_json(out / FOUND, facts)
    return figures


class Candidate(NamedTuple):
    """An answer and what it is worth."""

    answer: Answer
    reward: float
    earlier: bool = False
    """Of an earlier round."""


def best_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best answer to every prompt, of equals the first, in the order in which prompts were first answered."""
    found: dict[str, Candidate] = {}
    for one in candidates:
        asked = json.dumps(one.answer.prompt.messages)
        if asked not in found or one.reward > found[asked].reward:
            found[asked] = one
    return list(found.values())


def _sampled(settings: RejectionSettings, score: Scorer, out: Path) -> tuple[list[Prompt], list[Candidate]]:
    """Every answer to every prompt; what was sampled before is read, not sampled again."""
    source = settings.sampler or settings.model
    model = load_model(source, device=settings.device)
    engine, prompts = _engine(settings, model, Tokenizer.load(source), settings.prompts)
    if not (out / ANSWERS).exists():
        rows = list(_portions(settings, engine, prompts, score, out / "portions"))
        rewards = score.total({name: _numbers([row["parts"][name] for row in rows]) for name in rows[0]["parts"]})
        write_jsonl(out / ANSWERS, [{**row, "reward": _told(reward)} for row, reward in zip(rows, rewards.tolist())])
    shutil.rmtree(out / "portions", ignore_errors=True)
    return prompts, [Candidate(Answer(prompts[row["prompt"]], row["ids"], row["text"], row["ended"]),
                               _number(row["reward"])) for row in read_jsonl(out / ANSWERS)]


def _portions(settings: RejectionSettings, engine: Engine, prompts: list[Prompt], score: Scorer, folder: Path) -> Any:
    """Rows of answers, written portion by portion."""
    count = max(1, AT_ONCE // settings.answers)
    for start in track(range(0, len(prompts), count), "sampling"):
        path = folder / f"{start:08d}.jsonl"
        if not path.exists():
            answers = [answer for own in sample_answers(engine, prompts[start : start + count], settings.answers,
                                                        settings.sampling, settings.seed, first=start)
                       for answer in own]
            parts = score.parts(answers)
            write_jsonl(path, [{"prompt": start + number // settings.answers, "text": answer.text, "ids": answer.ids,
                                "ended": answer.ended,
                                "parts": {name: _told(float(said[number])) for name, said in parts.items()}}
                               for number, answer in enumerate(answers)])
        yield from read_jsonl(path)


def _engine(settings: RejectionSettings, model: Decoder, tokenizer: Tokenizer, paths: list[Path]
            ) -> tuple[Engine, list[Prompt]]:
    """With slots as long as the longest prompt and its answer. Raises `InputError` where no answer has room."""
    room = model.config.longest - settings.sampling.max_tokens
    if room < 1:
        raise InputError(f"answers of {settings.sampling.max_tokens} tokens leave no room for a prompt in a context of "
                         f"{model.config.longest}", where="sampling.max_tokens", fix="lower it")
    prompts = read_prompts(paths, tokenizer, room)
    longest = max(len(one.ids) for one in prompts) + settings.sampling.max_tokens
    return Engine(model, tokenizer, max_batch=settings.max_batch, max_length=longest), prompts


def _earlier(settings: RejectionSettings, score: Scorer) -> list[Candidate]:
    """The best answers of earlier rounds, judged again."""
    answers = read_answers(settings.earlier, Tokenizer.load(settings.model)) if settings.earlier else []
    found = [Candidate(answer, reward, earlier=True) for answer, reward in
             zip(answers, score(answers).total.tolist() if answers else [], strict=True)]
    tally: Tally = Counter()
    kept = [one for one, good in zip(found, _usable(found, tally)) if good]
    tell(tally, len(found))
    return kept


def _usable(candidates: Sequence[Candidate], tally: Tally) -> list[bool]:
    return usable([one.answer for one in candidates], _numbers([one.reward for one in candidates]), tally)


def _dialogue(one: Candidate) -> dict[str, Any]:
    """A row that `headwater finetune` reads, and that `earlier` does."""
    prompt = one.answer.prompt
    known = {key: getattr(prompt, key) for key in ("unsafe", "expected", "careless", "domain", "attack")}
    return {"messages": one.answer.messages, "language": prompt.language, "reward": one.reward,
            **{key: value for key, value in known.items() if value}}


def _tune(settings: RejectionSettings, tuning: Tuning, score: Scorer, best: list[Candidate], out: Path
          ) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The trainer's figures, and rewards of answers to unseen prompts before and after."""
    dialogues = [Dialogue(one.answer.messages, one.answer.prompt.language, one.answer.prompt.place) for one in best]
    rendered = render_each(dialogues, tuning.tokenizer, tuning.trainer.sequence_length, cut=False)
    sequences = [(one.ids, last_answer(one)) for one in rendered if one is not None]
    batches = tuning.packed(sequences, tuning.trainer.rows)
    measured: dict[str, dict[str, float]] = {}
    if settings.validation:
        if not (out / BEFORE).exists():
            write_json(out / BEFORE, _measured(settings, load_model(settings.model, device=settings.device), score))
        measured["before"] = read_json(out / BEFORE)
    model = tuning.load()
    figures = tuning.fit(model, next_token, batches, out)
    if settings.validation:
        measured["after"] = _measured(settings, model.to(settings.device), score)
        print_result(_before_and_after(measured))
    return figures, measured


def _measured(settings: RejectionSettings, model: Decoder, score: Scorer) -> dict[str, float]:
    """Mean reward of usable answers to unseen prompts and what each source says of them; the share of the others."""
    engine, prompts = _engine(settings, model, Tokenizer.load(settings.model), settings.validation)
    answers = [answer for own in sample_answers(engine, prompts, VALIDATION_ANSWERS, settings.sampling, settings.seed)
               for answer in own]
    scored = score(answers)
    good = torch.tensor(usable(answers, scored.total, Counter()))
    found = {"reward": scored.total, **{f"reward.{name}": said for name, said in scored.parts.items()}}
    means = {name: float(values[good].mean()) for name, values in found.items()} if good.any() else {}
    return {**means, "left_out": 1 - float(good.float().mean())}


def _curve_table(told: Curves) -> Table:
    table = Table(title="Reward by the number of answers")
    for heading in ("answers", "best", "mean", "median"):
        table.add_column(heading, justify="right")
    shown = sorted({1, told.k[-1], *(2**power for power in range(told.k[-1].bit_length()))})
    for k in shown:
        table.add_row(str(k), *(f"{values[k - 1]:.3f}" for values in (told.max, told.mean, told.median)))
    return table


def _before_and_after(measured: dict[str, dict[str, float]]) -> Table:
    table = Table(title="Unseen prompts")
    for heading in ("measure", *measured):
        table.add_column(heading, justify="left" if heading == "measure" else "right")
    for name in dict.fromkeys(name for values in measured.values() for name in values):
        table.add_row(name.replace("_", " ").replace(".", ", "),
                      *(f"{values[name]:.3f}" if name in values else "" for values in measured.values()))
    return table


def _told(value: float) -> float | None:
    """JSON has no word for what is not finite."""
    return value if abs(value) < float("inf") else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _numbers(values: Sequence[float | None]) -> torch.Tensor:
    return torch.tensor([_number(value) for value in values], dtype=torch.float32)
