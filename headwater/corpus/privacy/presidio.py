"""Presidio as the deeper engine for private data: its recognisers, and names and places with a spaCy model."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import Any

from headwater.corpus.privacy.kinds import Kind
from headwater.errors import MissingExtraError

_KINDS: dict[str, Kind] = {
    "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "CREDIT_CARD": "bank_card", "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip", "US_SSN": "ssn", "US_PASSPORT": "passport", "PERSON": "person", "LOCATION": "location"}
_LEAST_SCORE = 0.4
"""Presidio's own documentation calls results below it weak; a bare pattern without context scores less."""


def recognise(text: str, kinds: Collection[Kind], model: str | None = None) -> Iterator[tuple[Kind, int, int]]:
    """(kind, start, end) of what Presidio's English recognisers find of those kinds.

    Without a spaCy model only its patterns run. Raises `MissingExtraError` without presidio-analyzer or that model.
    """
    entities = [entity for entity, kind in _KINDS.items() if kind in kinds]
    if entities:
        for result in _analyzer(model).analyze(text, language="en", entities=entities, score_threshold=_LEAST_SCORE):
            yield _KINDS[result.entity_type], result.start, result.end


@cache
def _analyzer(model: str | None) -> Any:
    # One per process: building the recognisers takes seconds.
    try:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider, NoOpNlpEngine

        if model is None:
            return AnalyzerEngine(nlp_engine=NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "none"}]))
        import spacy

        if not spacy.util.is_package(model):
            raise MissingExtraError(f"the spaCy model {model} is not installed", where="spacy_model",
                                    fix=f"python -m spacy download {model}")
        provider = NlpEngineProvider(nlp_configuration={
            "nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]})
        return AnalyzerEngine(nlp_engine=provider.create_engine())
    except ImportError as error:
        raise MissingExtraError(f"the engine presidio cannot be imported ({error})",
                                fix="pip install 'headwater[presidio]'") from None
