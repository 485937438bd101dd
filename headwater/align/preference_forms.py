"""The forms in which preferences are published, told by their keys; each row becomes pairs of dialogues, or is refused.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import combinations
from typing import Any, Literal, NamedTuple, get_args

from headwater.dialogues.calls import text_of
from headwater.dialogues.forms import (
    ALPACA,
    HARMLESS,
    MESSAGES,
    SHAREGPT,
    Notes,
    refuse,
    said_in,
    unknown_keys,
)
from headwater.dialogues.rows import BadRow, Unusable
from headwater.settings import nearest_name
from headwater.tokenizer import Message

Rating = Literal["significantly better", "better", "slightly better", "negligibly better"]
"""How much better the chosen answer is; the gap is 4 for the first and 1 for the last."""
RATINGS: tuple[Rating, ...] = get_args(Rating)
Row = Mapping[str, Any]
Cuts = tuple[float, float, float]
"""Gaps of two scores from which on an answer is significantly better, better, slightly better."""


class Pair(NamedTuple):
    """Two dialogues, as a row has them."""

    chosen: list[Message]
    rejected: list[Message]
    rating: Rating | None = None
    chosen_safe: bool | None = None
    rejected_safe: bool | None = None


class PairForm(NamedTuple):
    """One form of rows."""

    name: str
    """Of its rows, for messages."""
    needed: tuple[str, ...]
    others: tuple[str, ...]
    read: Callable[[Row, Cuts], Iterator[Pair]]

    @property
    def keys(self) -> tuple[str, ...]:
        return self.needed + self.others


def form_of(row: Any, ignored: Collection[str] = ()) -> PairForm:
    """The form of which a row has all keys, or the most. Raises `BadRow` for none, for a key that is missing or
    unknown."""
    if not isinstance(row, Mapping):
        raise BadRow(f"expected a preference, found {type(row).__name__}", fix=f"write rows with {_LISTED}")
    held = {form.name: sum(key in row and key not in ignored for key in form.needed) for form in FORMS}
    form = max(FORMS, key=lambda one: (held[one.name] == len(one.needed), held[one.name]))
    if not held[form.name]:
        raise BadRow(f"expected a preference, found {', '.join(map(str, row)) or 'an empty object'}",
                     fix=f"write rows with {_LISTED}")
    unknown = unknown_keys(row, form.keys, {*HARMLESS, *ignored})
    missing = [key for key in form.needed if row.get(key) is None]
    if missing and isinstance(row.get("label"), bool):
        raise BadRow("one answer with a label (KTO), no pair: such files are not read",
                     fix="give two answers to each question, of which one is better")
    if missing:
        raise BadRow(f"the key '{missing[0]}' is missing, {form.name} have {' and '.join(form.needed)}")
    unknown_keys(row, {key for one in FORMS for key in one.keys}, {*HARMLESS, *ignored})  # nearly another form's
    refuse(unknown, form.keys)
    return TRANSCRIPTS if form is PAIRS and isinstance(row["chosen"], str) else form


def _said(values: Row, form: Any) -> list[Message]:
    notes: Notes = Counter()
    return said_in(values, form, notes)


def _labelled(row: Row, chosen: list[Message], rejected: list[Message]) -> Pair:
    """With what our own rows say of the two."""
    rating = row.get("rating")
    if rating is not None and rating not in RATINGS:
        near = nearest_name(str(rating), RATINGS, at_least=0.5)
        raise BadRow(f"unknown rating {rating!r}", fix=f"did you mean '{near}'?" if near
                     else f"use {', '.join(RATINGS)}")
    safe = [row.get(key) for key in ("chosen_safe", "rejected_safe")]
    if not all(one is None or isinstance(one, bool) for one in safe):
        raise BadRow("chosen_safe and rejected_safe are true or false", fix="correct the row")
    return Pair(chosen, rejected, rating, *safe)


def _pairs(row: Row, cuts: Cuts) -> Iterator[Pair]:
    yield _labelled(row, *(_said({"messages": row[side], "tools": row.get("tools")}, MESSAGES)
                           for side in ("chosen", "rejected")))


_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"\n\n(Human|Assistant):")


def _transcripts(row: Row, cuts: Cuts) -> Iterator[Pair]:
    yield _labelled(row, *(_transcript(text_of(row[side], side)) for side in ("chosen", "rejected")))


def _transcript(text: str) -> list[Message]:
    before, *parts = _TURN.split(text)
    if before.strip() or not parts:
        raise BadRow("a transcript that does not begin with '\\n\\nHuman:'",
                     fix="write turns behind '\\n\\nHuman:' and '\\n\\nAssistant:', or give lists of messages")
    return [{"role": _SPEAKERS[speaker], "content": said.strip()} for speaker, said in zip(parts[::2], parts[1::2])]


def _sharegpt(row: Row, cuts: Cuts) -> Iterator[Pair]:
    """The answer to the conversation, as text or as a turn."""
    def side(answer: Any) -> list[Message]:
        turns = [{"from": "gpt", "value": answer}] if isinstance(answer, str) else \
            [answer] if isinstance(answer, Mapping) else answer
        if not isinstance(row["conversations"], list) or not isinstance(turns, list):
            raise BadRow("conversations and answers are lists of turns", fix="correct the row")
        shared = {key: row.get(key) for key in ("system", "tools")}
        return _said({**shared, "conversations": [*row["conversations"], *turns]}, SHAREGPT)

    yield _labelled(row, side(row["chosen"]), side(row["rejected"]))


def _answered(row: Row, answer: Any) -> list[Message]:
    """An instruction with one of its answers."""
    return _said({**{key: row.get(key) for key in ("instruction", "input", "system", "history")}, "output": answer},
                 ALPACA)


def _alpaca(row: Row, cuts: Cuts) -> Iterator[Pair]:
    yield _labelled(row, _answered(row, row["chosen"]), _answered(row, row["rejected"]))


def _ranked(row: Row, cuts: Cuts) -> Iterator[Pair]:
    """A pair of every two answers: those far from each other are the surest, and neighbours alone would leave them out.
    The distance is the rating: one place, two, more."""
    answers = row["output"]
    if not isinstance(answers, list):
        raise BadRow("the output is no list of answers, the best first", fix="give such a list, or chosen and rejected")
    if len(answers) < 2:
        raise Unusable("one answer alone")
    said = [_answered(row, answer) for answer in answers]
    for better, worse in combinations(range(len(said)), 2):
        yield Pair(said[better], said[worse], RATINGS[max(0, 3 - (worse - better))])


def _safer(row: Row, cuts: Cuts) -> Iterator[Pair]:
    """PKU's: two answers, the first of which is the safer one."""
    if not isinstance(row["response"], list) or len(row["response"]) != 2:
        raise BadRow("the response is no list of two answers, the better one first", fix="correct the row")
    better, worse = ([{"role": "user", "content": text_of(row["prompt"], "prompt")},
                      {"role": "assistant", "content": text_of(answer, "response")}] for answer in row["response"])
    yield Pair(better, worse, None, True, False)  # type: ignore[arg-type]


_ANNOTATORS = ("annotator1", "annotator2", "annotator3")


def _voted(row: Row, cuts: Cuts) -> Iterator[Pair]:
    """PandaLM's: three annotators say 1, 2, or 0 for a tie. All for one: significantly better; two, and a tie: better;
    two against one: slightly better."""
    if not all(row[key] in (0, 1, 2) for key in _ANNOTATORS):
        raise BadRow("annotators say 0, 1 or 2", fix="correct the row")
    votes = Counter(row[key] for key in _ANNOTATORS)
    best, count = votes.most_common(1)[0]
    if count == 1 or best == 0:
        raise Unusable("a tie, or no majority among the annotators")
    rating = RATINGS[0 if count == 3 else 1 if votes[0] else 2]
    said = [_answered(row, row[key]) for key in ("response1", "response2")]
    yield Pair(said[best - 1], said[2 - best], rating)


def _judged(row: Row, cuts: Cuts) -> Iterator[Pair]:
    """LLMBar's: two outputs and which is the better one."""
    if row["label"] not in (1, 2):
        raise BadRow("the label is not 1 or 2", fix="correct the row")
    said = [_said({"instruction": row["input"], "output": row[key]}, ALPACA) for key in ("output_1", "output_2")]
    yield Pair(said[row["label"] - 1], said[2 - row["label"]])


_SCORES = (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating"), ("chosen_rating",
           "rejected_rating"))


def _prompted(row: Row, cuts: Cuts) -> Iterator[Pair]:
    """UltraFeedback's and its like: a prompt, whose answers are text, messages, or dialogues with the prompt in them.
    """
    prompt = row["prompt"]
    if not isinstance(prompt, list):
        prompt = [{"role": "user", "content": text_of(prompt, "prompt")}]
    if row.get("system"):
        prompt = [{"role": "system", "content": text_of(row["system"], "system")}, *prompt]

    def side(answer: Any) -> list[Message]:
        turns = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
        whole = isinstance(turns, list) and turns and isinstance(turns[0], Mapping) \
            and turns[0].get("role") != "assistant"
        return _said({"messages": turns if whole or not isinstance(turns, list) else [*prompt, *turns]}, MESSAGES)

    pair = _labelled(row, side(row["chosen"]), side(row["rejected"]))
    yield pair if pair.rating else pair._replace(rating=_by_scores(row, cuts))


def _by_scores(row: Row, cuts: Cuts) -> Rating | None:
    for names in _SCORES:
        better, worse = (row.get(name) for name in names)
        if better is None or worse is None:
            continue
        if not all(isinstance(one, (int, float)) for one in (better, worse)):
            raise BadRow(f"{names[0]} and {names[1]} are numbers", fix="correct the row")
        if not all(abs(one) <= sys.float_info.max for one in (better, worse)):  # NaN is not, and has no order
            raise Unusable("a score is no finite number")
        if better <= worse:
            raise Unusable("the chosen answer has no higher score")
        return next((rating for rating, cut in zip(RATINGS, cuts) if better - worse >= cut), RATINGS[3])
    return None


_LABELS = ("rating", "chosen_safe", "rejected_safe")
PAIRS = PairForm("pairs of dialogues", ("chosen", "rejected"), (*_LABELS, "tools"), _pairs)
TRANSCRIPTS = PAIRS._replace(name="pairs of transcripts", read=_transcripts)
FORMS = (PAIRS,
         PairForm("ShareGPT pairs", ("conversations", "chosen", "rejected"), (*_LABELS, "system", "tools"), _sharegpt),
         PairForm("Alpaca pairs", ("instruction", "chosen", "rejected"),
                  (*_LABELS, "input", "system", "history", "output"), _alpaca),
         PairForm("pairs of a prompt", ("prompt", "chosen", "rejected"),
                  (*_LABELS, *(name for names in _SCORES for name in names), "system", "messages", "prompt_id",
                   "chosen-model", "rejected-model", "chosen_model", "rejected_model"), _prompted),
         PairForm("ranked answers", ("instruction", "output"), ("input", "system", "history"), _ranked),
         PairForm("pairs of a safer answer", ("prompt", "response"), (), _safer),
         PairForm("answers with three votes", ("instruction", "response1", "response2", *_ANNOTATORS),
                  ("input", "idx", "motivation_app", "cmp_key"), _voted),
         PairForm("judged outputs", ("input", "output_1", "output_2", "label"), (), _judged))
_LISTED = " or ".join(", ".join(form.needed) for form in FORMS)
