"""What several processes do in the test of shared tuning: `torchrun sharing.py OUT CASES`, a run for each case."""

import json
import sys
from pathlib import Path

from headwater.finetune import stage, task
from headwater.train.processes import leave


def run(out, cases):
    """A head where a case has examples, else tuning."""
    for name, case in cases.items():
        kind, settings = (task, task.TaskSettings) if "examples" in case else (stage, stage.FinetuneSettings)
        kind.run(settings.parse(case), Path(out) / name)


if __name__ == "__main__":
    run(sys.argv[1], json.loads(sys.argv[2]))
    leave()
