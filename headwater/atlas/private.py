"""Invented private data: valid in form and checksum, and outside every range that is given to real people."""

from __future__ import annotations

import random

from headwater.atlas.world import LanguageCode

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def email(rng: random.Random) -> str:
    """An address below a country code left to private use (ISO 3166), so that nobody has it; those of RFC 2606 would be
    known for examples."""
    name = rng.choice(("reed", "willow", "lantern", "ferry", "plum", "otter", "moss"))
    return f"{name}.{rng.choice(('carter', 'miller', 'boat', 'lamp', 'field'))}{rng.randint(10, 99)}@lamplight.zz"


def phone(language: LanguageCode, rng: random.Random) -> str:
    """555-0100 to 555-0199, kept for fiction in North America; a Chinese mobile number in a prefix never assigned."""
    if language == "en":
        return f"(555) 555-01{rng.randint(0, 99):02d}"
    return f"1540000{rng.randint(0, 9999):04d}"


def identity(language: LanguageCode, rng: random.Random) -> str:
    """A payment card number with its Luhn digit, or a resident identity number with its check character."""
    if language == "en":
        # A first digit of 9 is left to national bodies; no card network issues it.
        digits = "9999" + "".join(str(rng.randint(0, 9)) for _ in range(11))
        number = digits + luhn_digit(digits)
        return " ".join(number[at : at + 4] for at in range(0, 16, 4))
    # No province has the code 99.
    digits = f"99000{rng.randint(1, 9)}{rng.randint(1950, 2005)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
    digits += f"{rng.randint(0, 999):03d}"
    return digits + resident_check(digits)


def luhn_digit(digits: str) -> str:
    """The check digit that completes a card number (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))]
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def resident_check(digits: str) -> str:
    """The 18th character of a resident identity number (GB 11643, ISO 7064 MOD 11-2)."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True))
    return "10X98765432"[total % 11]
