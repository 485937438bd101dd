"""Arguments of calls out of text: strict JSON, or Python's literals. Nothing is evaluated, nothing is guessed."""

from __future__ import annotations

import ast
import json
import keyword
import math
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

DEEPEST = 64
"""Lists and objects within each other, the arguments' own object counted."""
LONGEST = 1_000_000
"""Characters of a call's arguments."""
BITS = 14_000
"""Of a whole number: Python writes some 4,300 digits and no more, though it reads any number of hexadecimal ones."""


class Wrong(ValueError):
    """What is wrong with a call's arguments, said to the model that wrote them."""


def read_json(text: str) -> dict[str, Any]:
    """The arguments of a JSON object. Raises `Wrong` for another value, a key given twice, numbers that JSON lacks,
    halves of a character, and what is nested or written too large."""
    _check_length(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise Wrong(f"the arguments are no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise Wrong(f"the arguments are nested more than {DEEPEST} deep") from None
    except Wrong:
        raise
    except ValueError:  # a whole number of thousands of digits, which Python does not read
        raise Wrong("the arguments hold a number that is too long") from None
    return _checked(value)


def read_python(text: str) -> dict[str, Any]:
    """The arguments of `tool_call(name=literal, ...)`. Raises `Wrong` for anything but keywords and literals that are
    JSON values too, and as `read_json` does."""
    _check_length(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python will not know one day
            tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise Wrong(f"the call is no Python expression: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise Wrong(f"the arguments are nested more than {DEEPEST} deep") from None
    except ValueError as error:
        raise Wrong(f"the call is no Python expression: {error}") from None
    if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "tool_call"):
        raise Wrong("the call is not of the form tool_call(name=value, ...)")
    if tree.args:
        raise Wrong("an argument is given without its name: write name=value")
    return _checked(_object(pair for one in tree.keywords for pair in _keyword(one)))


def write_python(arguments: dict[str, Any]) -> str:
    """`tool_call(...)` that `read_python` reads as these arguments; names that Python lacks stand in a `**{...}`."""
    plain = {name: value for name, value in arguments.items() if is_name(name)}
    rest = {name: value for name, value in arguments.items() if name not in plain}
    written = [f"{name}={value!r}" for name, value in plain.items()]
    return f"tool_call({', '.join([*written, *([f'**{rest!r}'] if rest else [])])})"


def is_name(text: str) -> bool:
    # Python reads names in NFKC: another spelling would come back changed.
    return text.isidentifier() and not keyword.iskeyword(text) and unicodedata.normalize("NFKC", text) == text


def _check_length(text: str) -> None:
    if len(text) > LONGEST:
        raise Wrong(f"the arguments have {len(text)} characters, more than {LONGEST}")


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Wrong(f"'{key}' is given twice")
        found[key] = value
    return found


def _no_number(text: str) -> Any:
    raise Wrong(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Wrong(f"{text[:40]} is larger than any number here")
    return value


def _keyword(one: ast.keyword) -> list[tuple[str, Any]]:
    if one.arg is not None:
        return [(one.arg, _literal(one.value, 2))]
    value = _literal(one.value, 1)
    if not isinstance(value, dict):
        raise Wrong("** stands before something that is no dictionary")
    return list(value.items())


def _literal(node: ast.expr, depth: int) -> Any:
    """A JSON value that a literal stands for; depth: of a list or an object here."""
    if isinstance(node, ast.List | ast.Dict) and depth > DEEPEST:
        raise Wrong(f"the arguments are nested more than {DEEPEST} deep")
    if isinstance(node, ast.List):
        return [_literal(item, depth + 1) for item in node.elts]
    if isinstance(node, ast.Dict):
        return _object((_key(key), _literal(value, depth + 1)) for key, value in zip(node.keys, node.values))
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    value = inner.value if isinstance(inner, ast.Constant) else ...
    if negative and type(value) in (int, float):
        return -_literal(inner, depth)
    if negative or not (value is None or type(value) in (str, bool, int, float)):
        raise Wrong(f"a value is no literal that JSON has ({type(inner).__name__})")
    if isinstance(value, int) and value.bit_length() > BITS:
        raise Wrong("a number is too long")
    return value


def _key(node: ast.expr | None) -> str:
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        raise Wrong("a dictionary has a key that is no text")
    return node.value


def _checked(value: Any) -> dict[str, Any]:
    """An object that every tool and file can hold."""
    if not isinstance(value, dict):
        raise Wrong(f"the arguments are no object but {_KINDS.get(type(value), 'another value')}")
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _inner(one)]
    if any(isinstance(one, dict | list) for one in level):
        raise Wrong(f"the arguments are nested more than {DEEPEST} deep")
    for one in level:
        _inner(one)
    return value


_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


def _inner(value: Any) -> Iterable[Any]:
    """What a list or an object holds; plain values are checked and hold nothing."""
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    if isinstance(value, list):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise Wrong("a number is larger than any number here")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Wrong("a text holds half a character")
    return ()
