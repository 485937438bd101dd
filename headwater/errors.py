"""Errors a person can act on: what was found, where, and what to do about it."""

from __future__ import annotations


class HeadwaterError(Exception):
    """Base of every error we raise on purpose.

    `what` says what was found and what was expected, `where` names the file, line or setting, `fix` says what
    to do next. `exit_code` is the process's exit status when the error reaches the command line.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, None if where is None else str(where), fix
        super().__init__(str(self))

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.fix is None else f"{text}\n  to do: {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling between worker processes.
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[HeadwaterError], what: str, where: str | None, fix: str | None) -> HeadwaterError:
    return kind(what, where=where, fix=fix)


class UserError(HeadwaterError):
    """The user's mistake (exit code 2)."""

    exit_code = 2


class SettingsError(UserError):
    """A recipe, a setting or an override is wrong."""


class InputError(UserError):
    """An input file or folder is missing, empty, truncated or of another kind than it should be."""


class CheckpointError(InputError):
    """A model or training checkpoint folder is incomplete, damaged or of another shape."""


class MissingExtraError(UserError):
    """An optional dependency is not installed."""


class StorageError(HeadwaterError):
    """The disk refused a write (full, read-only, quota)."""


class UnexpectedError(HeadwaterError):
    """Something failed that we did not foresee; the traceback is kept in a file."""


class Interrupted(HeadwaterError):
    """The run was stopped on purpose (Ctrl-C or SIGTERM) at a point from which it can go on."""

    exit_code = 130
