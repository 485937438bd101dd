import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_what_the_documents_quote_is_the_source():
    done = subprocess.run([sys.executable, "docs/render.py", "--check"], cwd=ROOT, capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": ""})
    assert done.returncode == 0, done.stdout + done.stderr
