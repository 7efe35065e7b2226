"""Where settings are written: `config.py`, `.env`, the environment. Read as they stand; `settings` judges them."""

from __future__ import annotations

import copy
import json
import runpy
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from aipipe.casts import mapping
from aipipe.errors import ConfigError

PREFIX = "AIPIPE_"
NESTED = "__"


def config_file(path: Path) -> dict[str, Any]:
    """The upper-case names of a Python file. Raises ConfigError with the line where it fails."""
    try:
        names = runpy.run_path(str(path))
    except SyntaxError as error:
        raise ConfigError(f"{path}, line {error.lineno}: this is not valid Python.") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ConfigError(f"{place}: can't be run ({type(error).__name__}).") from None
    return {name: value for name, value in names.items() if name.isupper()}


def dotenv(path: Path) -> dict[str, str]:
    """What a `.env` file sets, if there is one. A `$` in a value stays as it is."""
    try:
        values = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path.absolute()} can't be read: it must be a text file in UTF-8.") from None
    return {name: value for name, value in values.items() if value is not None}


def overlay(
    values: dict[str, Any], variables: Mapping[str, str], known: Mapping[str, str], defaults: Mapping[str, Any]
) -> None:
    """Lay what `variables` say over `values`, by setting. `known` maps a variable to its setting.

    A name with the prefix wins over one without, and an item in a setting over the whole of it.
    Raises ValueError, beginning with a variable's name, for an item in what can't have one.
    """
    for variable in sorted(variables, key=lambda name: (name.startswith(PREFIX), name)):
        root, *path = variable.split(NESTED)
        if root not in known or (path and not root.startswith(PREFIX)):
            continue
        name = known[root]
        if not path:
            values[name] = variables[variable]
            continue
        try:
            whole = copy.deepcopy(mapping(values.get(name) or defaults[name]))
            _put(whole, path, variables[variable])
        except ValueError:
            raise ValueError(f"{variable}: {name} has no items; set the whole of it.") from None
        values[name] = whole


def strays(variables: Iterable[str], known: Iterable[str]) -> list[str]:
    """The variables with our prefix that name no setting."""
    roots = set(known)
    return [name for name in sorted(variables) if name.startswith(PREFIX) and name.split(NESTED)[0] not in roots]


def _put(whole: dict[str, Any], path: list[str], value: str) -> None:
    *parents, last = path
    for parent in parents:
        whole = whole.setdefault(parent, {})
        if not isinstance(whole, dict):
            raise ValueError("not a mapping")
    try:
        whole[last] = json.loads(value)
    except (ValueError, RecursionError):
        whole[last] = value
