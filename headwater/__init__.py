"""Headwater: open bilingual language models, from raw pages to a served chat model."""

__version__ = "0.1.0"
