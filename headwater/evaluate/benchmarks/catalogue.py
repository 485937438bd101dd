"""Every official benchmark by name."""

from __future__ import annotations

from headwater.evaluate.benchmarks.bbh import BBH
from headwater.evaluate.benchmarks.ceval import CEVAL
from headwater.evaluate.benchmarks.cmmlu import CMMLU
from headwater.evaluate.benchmarks.definition import Benchmark
from headwater.evaluate.benchmarks.gsm8k import GSM8K
from headwater.evaluate.benchmarks.mmlu import MMLU

BENCHMARKS: dict[str, Benchmark] = {one.name: one for one in (MMLU, CMMLU, CEVAL, GSM8K, BBH)}
