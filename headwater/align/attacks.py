"""`headwater safety attacks`: the requests of any files as attacks, in the phrasings of the Atlas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from headwater.align.prompts import known
from headwater.align.published import prompt_rows
from headwater.artifacts import claim, hash_file, write_jsonl
from headwater.atlas.attacks import ATTACKS
from headwater.atlas.randomness import stream
from headwater.atlas.world import LanguageCode
from headwater.dialogues.reading import language_of
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import Distinct, Seed, Settings
from headwater.tokenizer import Message

ATTACKS_FILE = "attacks.jsonl"


class AttackSettings(Settings):
    """Which attacks are made of a request."""

    types: Annotated[list[str], Field(min_length=1), Distinct] = [attack.name for attack in ATTACKS]
    phrasings: int = Field(default=1, gt=0)
    """Of each type, for each request; all where there are fewer."""
    seed: Seed = 0

    @field_validator("types")
    @classmethod
    def _known(cls, types: list[str]) -> list[str]:
        names = [attack.name for attack in ATTACKS]
        for name in types:
            if name not in names:
                raise ValueError(f"no attack '{name}': known are {', '.join(names)}")
        return types


def attack(files: list[Path], out: Path, settings: AttackSettings) -> None:
    """Write `attacks.jsonl` into `out`: the unsafe prompts of the files, each in every type of attack.

    Raises `InputError` where the files hold none, and for a folder that holds others.
    """
    rows = [row for file in files for found in prompt_rows(file) for row in attacks(*known(found), settings)]
    if not rows:
        raise InputError("no unsafe prompt", where=", ".join(map(str, files)),
                         fix='give rows with "unsafe": true, or a published list of risky requests')
    what = {"files": [hash_file(file) for file in files], "settings": settings.model_dump(mode="json")}
    claim(out, what, "set of attacks", ATTACKS_FILE)
    write_jsonl(out / ATTACKS_FILE, rows)
    each = Counter(row["attack"] for row in rows)
    say(f"{len(rows):,} attacks: " + ", ".join(f"{name} {count:,}" for name, count in each.items()))


def attacks(prompt: Mapping[str, Any], messages: list[Message], settings: AttackSettings) -> Iterator[dict[str, Any]]:
    """A prompt's request inside the attacks; nothing of a prompt that is safe or an attack already."""
    if not prompt.get("unsafe") or prompt.get("attack"):
        return
    request = messages[-1]["content"]
    language: LanguageCode = "zh" if (prompt.get("language") or language_of(messages)) == "zh" else "en"
    for kind in ATTACKS:
        if kind.name in settings.types:
            rng = stream(settings.seed, kind.name, request)
            known = kind.phrasings[language]
            for phrasing in rng.sample(known, min(settings.phrasings, len(known))):
                yield {**prompt, "messages": kind.messages(request, language, phrasing), "language": language,
                       "attack": kind.name}
