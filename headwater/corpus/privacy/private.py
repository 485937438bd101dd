"""Private data in a text: found by form and check digits, masked by typed placeholders."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from headwater.corpus.privacy import addresses as private_addresses
from headwater.corpus.privacy import contacts as private_contacts
from headwater.corpus.privacy import numbers as private_numbers
from headwater.corpus.privacy.kinds import RULE_KINDS, Kind
from headwater.corpus.privacy.numbers import Span
from headwater.settings import Settings


class PrivateSettings(Settings):
    """Private data: what to look for and what to do about it."""

    action: Literal["mask", "drop"] = "mask"
    """Replace what is found by placeholders such as <EMAIL>, or drop the document."""
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = RULE_KINDS
    """What to look for; person and location need the engine presidio."""
    engine: Literal["rules", "presidio"] = "rules"
    """Our rules alone, or the recognisers of presidio beside them (far slower)."""
    spacy_model: str | None = None
    """An installed spaCy model for presidio, which names and places need; null runs its patterns alone."""

    @model_validator(mode="after")
    def _engine_can(self) -> PrivateSettings:
        if self.engine == "rules" and self.spacy_model is not None:
            raise ValueError("spacy_model is presidio's: set engine=presidio too, or leave it out")
        lacking = [kind for kind in self.kinds if kind not in RULE_KINDS]
        if lacking and self.spacy_model is None:
            raise ValueError(f"kinds {', '.join(lacking)} need engine=presidio and an installed spacy_model")
        return self


@dataclass(frozen=True, order=True)
class Private:
    """One finding: `text[start:end]` is of that kind."""

    start: int
    end: int
    kind: Kind


# Full-width forms of what numbers and addresses are written with; one character for one, so that places stay.
_HALF = (
    {0xFF10 + digit: ord("0") + digit for digit in range(10)}
    | {ord(wide): ord(narrow) for wide, narrow in zip("＠．－＋（）　\u2010\u2011\u2012\u2013\u00a0", "@.-+() ---- ")}
    | {0xFF21 + letter: ord("A") + letter for letter in range(26)}
    | {0xFF41 + letter: ord("a") + letter for letter in range(26)}
)
_WIDE = re.compile("[０-９＠＋]|（[0-9+]|[0-9][\u2010-\u2013\u00a0]")
_SIX_DIGITS = re.compile(r"\d(?:[ ./()-]{0,3}\d){5}")
Finder = Callable[[str], Iterator[Span]]
# By form the surest first: of two findings of one length the earlier kind wins.
_FINDERS: dict[Kind, Finder] = {
    "secret": private_contacts.secrets, "email": private_contacts.emails, "resident_id": private_numbers.resident_ids,
    "iban": private_numbers.ibans, "bank_card": private_numbers.bank_cards, "mobile": private_contacts.mobiles,
    "phone": private_contacts.phones, "ssn": private_numbers.ssns, "passport": private_numbers.passports,
    "ip": private_numbers.ip_addresses, "mac": private_numbers.mac_addresses, "account": private_contacts.accounts,
    "plate": private_contacts.plates, "address": private_addresses.addresses,
}
_LONG_NUMBERS = frozenset({"resident_id", "iban", "bank_card", "mobile", "phone", "ssn", "passport"})
_ORDER = {kind: place for place, kind in enumerate(get_args(Kind))}


def find_private(text: str, settings: PrivateSettings | None = None) -> list[Private]:
    """What private data the text holds: sorted, none overlapping (of two that overlap the longer stays).

    Complete: masking what was found leaves nothing to find. Raises `MissingExtraError` when the engine asked for is
    not installed.
    """
    settings = settings or PrivateSettings()
    found = _search(text, settings)
    while found and (more := _search(mask_private(text, found), settings)):
        found = sorted([*found, *_unmasked(more, found)])
    return found


def mask_private(text: str, found: Sequence[Private]) -> str:
    """The text with each finding replaced by its kind in angle brackets: `<EMAIL>`, `<BANK_CARD>`."""
    parts, last = [], 0
    for one in found:
        parts += [text[last : one.start], _placeholder(one.kind)]
        last = one.end
    return "".join([*parts, text[last:]])


def count_private(found: Iterable[Private]) -> dict[str, int]:
    """Findings by kind."""
    return dict(Counter(one.kind for one in found))


def _placeholder(kind: Kind) -> str:
    return f"<{kind.upper()}>"


def _search(text: str, settings: PrivateSettings) -> list[Private]:
    half = text.translate(_HALF) if not text.isascii() and _WIDE.search(text) else text
    numbers = _SIX_DIGITS.search(half) is not None
    found = [
        Private(start, end, kind)
        for kind in settings.kinds
        if kind in _FINDERS and (numbers or kind not in _LONG_NUMBERS)
        for start, end in _FINDERS[kind](half)
    ]
    if settings.engine == "presidio":
        from headwater.corpus.privacy.presidio import recognise

        found += [
            Private(start, end, kind) for kind, start, end in recognise(text, settings.kinds, settings.spacy_model)
        ]
    return _apart(found) if len(found) > 1 else found


def _apart(found: Iterable[Private]) -> list[Private]:
    kept: list[Private] = []
    for one in sorted(found, key=lambda one: (one.start - one.end, _ORDER[one.kind], one.start)):
        place = bisect_right(kept, one)
        if (place == 0 or kept[place - 1].end <= one.start) and (place == len(kept) or kept[place].start >= one.end):
            kept.insert(place, one)
    return kept


def _unmasked(more: Sequence[Private], found: Sequence[Private]) -> Iterator[Private]:
    """Findings of the masked text, placed in the text itself."""
    shifts, starts, shift = [0], [0], 0
    for one in found:
        shift += one.end - one.start - len(_placeholder(one.kind))
        starts.append(one.end - shift)
        shifts.append(shift)
    for one in more:
        moved = shifts[bisect_right(starts, one.start) - 1]
        yield Private(one.start + moved, one.end + moved, one.kind)
