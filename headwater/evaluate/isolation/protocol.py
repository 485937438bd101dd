"""What the two ends of the pipes say: the process writes `READY`, or `UNABLE` and why; the program follows, its length
in sixteen digits before it and the token behind it; the token comes back before the verdict."""

from __future__ import annotations

READY, UNABLE = b"ready\n", b"unable\n"
TOKEN_BYTES = 32
