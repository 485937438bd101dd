"""Landlock (Linux 5.13): what an unprivileged process may give up for ever, without namespaces."""

from __future__ import annotations

import ctypes
import os

from headwater.sandbox import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
_OWN = _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM
_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights the kernel knows; later versions added none for files that matter here."""
_TRUNCATE = 1 << 14


_NET_SINCE, _SCOPES_SINCE = 4, 6
_NO_TCP, _NO_ABSTRACT_SOCKETS_AND_SIGNALS = 3, 3


def confine(readable: list[str], listed: list[str], own: str) -> None:
    """This process and all that it starts read `readable`, see names below `listed`, and write below `own` alone. Names
    and sizes of other files can still be asked for. Where the kernel knows how, sockets of the network and signals to
    others are given up too. Raises `OSError` where it has no Landlock."""
    version = kernel.call("syscall", _CREATE_RULESET, None, 0, _VERSION_FLAG)
    handled = (1 << _RIGHTS_BY_VERSION.get(version, 16)) - 1
    given_up = [handled, *([_NO_TCP] if version >= _NET_SINCE else []),
                *([_NO_ABSTRACT_SOCKETS_AND_SIGNALS] if version >= _SCOPES_SINCE else [])]
    asked = b"".join(part.to_bytes(8, "little") for part in given_up)
    rules = kernel.call("syscall", _CREATE_RULESET, ctypes.create_string_buffer(asked, len(asked)), len(asked), 0)
    devices = _READ_FILE | _WRITE_FILE
    for path, rights in [*((path, _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)) for path in readable),
                         *((path, _READ_DIR) for path in listed), (own, _OWN | _TRUNCATE),
                         ("/dev/null", devices), ("/dev/zero", devices), ("/dev/urandom", devices)]:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        beneath = (rights & handled).to_bytes(8, "little") + place.to_bytes(4, "little")
        kernel.call("syscall", _ADD_RULE, rules, _PATH_BENEATH, ctypes.create_string_buffer(beneath, 12), 0)
        os.close(place)
    kernel.call("syscall", _RESTRICT_SELF, rules, 0)
    os.close(rules)
