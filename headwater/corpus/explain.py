"""What would happen to one document, step by step, and why."""

from __future__ import annotations

