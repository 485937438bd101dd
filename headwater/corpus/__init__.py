"""Raw documents to clean text: read, extract, identify the language, filter, deduplicate, split.

`stage` does it for a corpus; what is named here does one step on one document (a str).
"""

from headwater.corpus.classifying.machine import machine_made, ocr_damaged
from headwater.corpus.classifying.toxicity import toxicity
from headwater.corpus.decontamination.contamination import ContaminationSettings, LeakIndex, remove_leaks
from headwater.corpus.deduplication.duplicates import exact_key
from headwater.corpus.deduplication.minhash import exact_jaccard
from headwater.corpus.extraction.extract import extract
from headwater.corpus.judging.language import identify
from headwater.corpus.judging.length import count_tokens
from headwater.corpus.judging.quality import QualitySettings, clean_lines, judge
from headwater.corpus.judging.score import score_document, score_sentences
from headwater.corpus.judging.scripts import script_shares
from headwater.corpus.judging.statistics import measure
from headwater.corpus.privacy.private import PrivateSettings, find_private, mask_private
from headwater.corpus.reading.tidying import tidy

__all__ = ["ContaminationSettings", "LeakIndex", "PrivateSettings", "QualitySettings", "clean_lines", "count_tokens",
           "exact_jaccard", "exact_key", "extract", "find_private", "identify", "judge", "machine_made", "mask_private",
           "measure", "ocr_damaged", "remove_leaks", "score_document", "score_sentences", "script_shares", "tidy",
           "toxicity"]
