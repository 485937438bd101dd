"""What would happen to one document, step by step, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from rich.table import Table

from headwater.corpus.duplicates import exact_key
from headwater.corpus.minhash import estimated_jaccard, signatures
from headwater.corpus.readers import Raw, read
from headwater.corpus.sources import Source, list_shards
from headwater.corpus.steps import EXACT, NEAR, Examiner, StepSettings, Verdict
from headwater.documents import corpus_files, read_documents
from headwater.errors import InputError
from headwater.progress import show
from headwater.settings import InputPath
