"""Whether the chat template that would be used is the one that a checkpoint records."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headwater.artifacts import read_json, write_json
from headwater.errors import InputError
from headwater.folders import CHAT_TEMPLATE, TOKENIZER_CONFIG
from headwater.tokenizer.chat import Message
from headwater.tokenizer.facts import RECORDED, Facts
from headwater.tokenizer.vocabulary import Tokenizer

_TALK: list[Message] = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "say"},
                        {"role": "user", "content": "more"}]
_PROBES: tuple[list[Message], ...] = (_TALK, [{"role": "system", "content": "be brief"}, *_TALK])
_MARK = re.compile(r"<\|[^|<>\s'\"{}]+\|>|<\w+>|\[g?MASK\]")
_FAILURES = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
_SPANS = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Where transformers marks what the assistant says; jinja2 alone does not know it."""


def require_template(tokenizer: Tokenizer, folder: Path, *, force: bool = False) -> None:
    """Refuse a checkpoint that was tuned with another chat template than the one that would be used.

    What it records is a template's name, written by our own tuning, and the text of `chat_template`, which is
    rendered for a short conversation (in jinja2's sandbox) and compared, blanks aside. Raises `InputError`, unless
    `force` is set; without any chat format at all `tokenizer.chat` raises it in every case.
    """
    used, facts = tokenizer.chat.name, Facts.of(Path(folder))
    named = facts.tokenizer.get(RECORDED)
    if named not in (None, used):
        what = f"the model was tuned with {named!r}, and {used!r} would be used"
    else:
        what = _difference(tokenizer, facts) or ""
    if what and not force:
        raise InputError(what, where=folder, fix="put the tokenizer's files of the same model together; "
                         f"force_template=true uses {used!r} all the same")


def record_template(tokenizer: Tokenizer, folder: Path) -> None:
    """Note in a tuned model's folder which template it was tuned with, and drop a recorded one that says otherwise."""
    facts = Facts.of(folder)
    said = {**(read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).exists() else {}),
            RECORDED: tokenizer.chat.name}
    if _difference(tokenizer, facts):
        said.pop("chat_template", None)
        (folder / CHAT_TEMPLATE).unlink(missing_ok=True)
    write_json(folder / TOKENIZER_CONFIG, said)


def _difference(tokenizer: Tokenizer, facts: Facts) -> str | None:
    """In which way the recorded template writes a conversation differently, None where it does not."""
    if not facts.chat_template:
        return None
    told = []
    for probe in _PROBES:
        with suppress(InputError):  # a system message, which not every family has
            written = tokenizer.spell(tokenizer.chat.render(probe, add_generation_prompt=True).ids)
            try:
                recorded = _rendered(facts.chat_template, probe, tokenizer)
            except _FAILURES as error:
                told.append(f"the recorded chat template cannot be rendered ({error})")
                continue
            if _dense(written) == _dense(recorded):
                return None
            told.append(f"the recorded chat template writes {recorded!r}, {tokenizer.chat.name} writes {written!r}")
    known = {*map(tokenizer.piece, (*tokenizer.marks, tokenizer.pad))}
    absent = sorted(set(_MARK.findall(facts.chat_template)) - known)
    lacks = f"; the tokenizer has no special {', '.join(absent)}" if absent else ""
    return told[0] + lacks


def _rendered(source: str, messages: Sequence[Message], tokenizer: Tokenizer, *,
              add_generation_prompt: bool = True) -> str:
    """What transformers would make of it. Raises `jinja2.TemplateError`."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = _to_json
    environment.globals.update(raise_exception=_refuse, strftime_now=lambda _: "")
    return environment.from_string(_SPANS.sub("", source)).render(
        messages=messages, add_generation_prompt=add_generation_prompt, bos_token=tokenizer.piece(tokenizer.bos),
        eos_token=tokenizer.piece(tokenizer.eos))


def _to_json(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _dense(text: str) -> str:
    return re.sub(r"\s+", "", text)
