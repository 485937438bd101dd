"""Cells run as a notebook runs them, inside the walls. Standard library alone.

What is printed goes to standard output and error, which are one pipe: so it arrives in order.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import os
import resource
import sys
import traceback
from types import ModuleType, TracebackType

_OURS = os.path.dirname((lambda: None).__code__.co_filename)
_MOST_FRAMES = 40
"""The innermost that are printed: a recursion can have millions."""


class Cells:
    """Names that live from cell to cell."""

    def __init__(self) -> None:
        # A module of its own, where classes made in a cell are looked for (pickle, dataclasses).
        module = ModuleType("__main__")
        sys.modules["__main__"] = module
        self._names = module.__dict__
        self._names["__builtins__"] = builtins
        self._streams = sys.stdout, sys.stderr

    def run(self, code: str, number: int) -> tuple[bool, list[bytes]]:
        """Whether the cell raised, which is then printed; and the picture that its last value has of itself."""
        sys.stdout, sys.stderr = self._streams
        name = f"<cell {number}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            return False, self._execute(code, name)
        except BaseException as error:
            print_error(error)
            return True, []

    def _execute(self, code: str, name: str) -> list[bytes]:
        tree = ast.parse(code, name)
        shown = None
        if tree.body and isinstance(last := tree.body[-1], ast.Expr) and not code.rstrip().endswith(";"):
            tree.body.pop()
            shown = ast.Expression(last.value)
        exec(compile(tree, name, "exec", dont_inherit=True), self._names)
        if shown is None:
            return []
        return self._show(eval(compile(shown, name, "eval", dont_inherit=True), self._names))

    def _show(self, value: object) -> list[bytes]:
        """Print it; Pillow's images and others that notebooks know have a picture besides."""
        if value is None:
            return []
        self._names["_"] = value
        print(repr(value))
        draw = getattr(type(value), "_repr_png_", None)
        picture = draw(value) if draw is not None else None
        return [picture] if isinstance(picture, bytes) else []


def print_error(error: BaseException) -> None:
    """The traceback below our own frames, in the memory that is left for it."""
    kind = resource.RLIMIT_AS
    soft, hard = resource.getrlimit(kind)
    try:
        resource.setrlimit(kind, (hard, hard))
        traceback.print_exception(type(error), error, _below_ours(error.__traceback__), -_MOST_FRAMES)
    finally:
        resource.setrlimit(kind, (soft, hard))


def _below_ours(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == _OURS:
        trace = trace.tb_next
    return trace
