"""One engine for every stage: batched decoding, sampling, streaming, likelihoods."""

from headwater.generate.constraint import Constraint
from headwater.generate.engine import Engine
from headwater.generate.log_likelihood import LogLikelihood
from headwater.generate.request import Completion, Delta
from headwater.generate.run_folder import find_model
from headwater.generate.sampling import SamplingParams

__all__ = ["Completion", "Constraint", "Delta", "Engine", "LogLikelihood", "SamplingParams", "find_model"]
