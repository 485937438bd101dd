"""The kinds of private data, and which of them rules can find."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal[
    "secret", "email", "resident_id", "iban", "bank_card", "ssn", "passport", "account", "mobile", "phone", "ip",
    "mac", "plate", "address", "person", "location",
]
RULE_KINDS: tuple[Kind, ...] = get_args(Kind)[:-2]
"""What the rules find; persons and locations take the engine presidio with a model."""
