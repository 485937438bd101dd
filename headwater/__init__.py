"""Headwater: open bilingual language models, from raw pages to a served chat model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.model.checkpoint import load_model

__version__ = "0.1.0"
__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    """`headwater.load_model`, found when it is asked for: importing the package does not import PyTorch."""
    if name == "load_model":
        from headwater.model.checkpoint import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
