"""One program in a walled process: run to its end, and its verdict told."""

from __future__ import annotations

import os
import resource
import sys
from typing import NoReturn

from headwater.sandbox.child import LONGEST
from headwater.sandbox.protocol import TOKEN_BYTES, read_framed


def run(source: int, verdict: int) -> NoReturn:
    """Run the program as HumanEval's harness does, in an empty dictionary of globals. Behind the program comes a token,
    asked for only when it has ended; the answer begins with it.

    Nothing but names of this function refers to what the report needs: a program may put anything in the place of a
    module's functions."""
    read, write, end, shorten = os.read, os.write, os._exit, _shorten
    raise_limit, kind = resource.setrlimit, resource.RLIMIT_AS
    more = resource.getrlimit(kind)[1]
    flush = sys.stdout.flush
    text = read_framed(source).decode()
    try:
        exec(compile(text, "<program>", "exec", dont_inherit=True), {})  # not this file's `annotations`
        said = b"passed\n"
    except BaseException as error:
        raise_limit(kind, (more, more))
        said = b"failed\n" + shorten(error)
    try:  # noqa: SIM105 (suppress() looks names up that the program may have replaced)
        flush()
    except BaseException:
        pass
    token = b""
    while len(token) < TOKEN_BYTES and (part := read(source, TOKEN_BYTES - len(token))):
        token += part
    write(verdict, token + said)
    end(0)


def _shorten(error: BaseException) -> bytes:
    """The type and the message, on a line each."""
    name = type(error).__name__
    try:
        message = str(error)[:LONGEST]
    except BaseException:  # __str__ is the program's
        message = ""
    return f"{name[:LONGEST]}\n{message}".encode("utf-8", "backslashreplace")
