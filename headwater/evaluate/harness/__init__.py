"""lm-evaluation-harness over the project's engine. The one place that imports it."""

import importlib.util

from headwater.errors import MissingExtraError

if importlib.util.find_spec("lm_eval") is None:
    raise MissingExtraError("official benchmarks need lm-evaluation-harness", fix="pip install 'headwater[evaluate]'")
