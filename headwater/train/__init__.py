"""One trainer for every stage: stages differ by objective and batches alone."""

from headwater.train.batches import Batch, Batches
from headwater.train.settings import TrainerSettings
from headwater.train.trainer import Trainer

__all__ = ["Batch", "Batches", "Trainer", "TrainerSettings"]
