"""A full disk pauses a run: what could not be written is written when there is space again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from headwater.artifacts import says_full
from headwater.progress import say

WAIT_SECONDS = 5.0
"""How often a full disk is looked at again."""


def wait_for_space(folder: Path, size: int, what: str) -> None:
    """Return when the disk of `folder` has `size` bytes free and some to spare; say so where one has to wait."""
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while shutil.disk_usage(folder).free < size * 1.05 + (1 << 20):
        if not told:
            say(f"paused: {folder} needs {size / 2**20:,.0f} MiB for {what}, the disk has "
                f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB free. The last checkpoint is good; the run goes on "
                "by itself when there is space (Ctrl-C stops it)")
            told = True
        time.sleep(WAIT_SECONDS)
    if told:
        say("there is space again: going on")


def when_it_fits(write: Callable[[], None], folder: Path, size: int, what: str) -> None:
    """Call `write`, which leaves nothing behind when it fails, until no full disk stops it; it needs `size` bytes."""
    told = False
    while True:
        try:
            return write()
        except Exception as error:
            if not says_full(error):
                raise
            if not told:
                say(f"paused: {what} could not be written ({error}); it is tried again")
                told = True
        wait_for_space(folder, size, what)
        time.sleep(WAIT_SECONDS)  # a quota may be full where the disk is not
