"""Search spaces: define-by-run functions in modules of their own."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from raffect.config import TemporalConfig, check_task
from raffect.errors import SettingsError
from raffect.settings import override

_PACKAGE = "tune_spaces"
_BUDGET = "TRIALS"
_DEFAULT_TRIALS = 50


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        function: Takes an Optuna trial, returns changes of the base configuration by dotted key.
        code: SHA-256 of what the module and the spaces it imports do; comments don't count.
        trials: The module's own budget.
        points: Known-good points, as changes of the base configuration by dotted key; they are
            tried after the recipe.
    """

    name: str
    function: Callable[[Any], Mapping[str, Any]]
    code: str
    trials: int
    points: tuple[Mapping[str, Any], ...] = ()

    def configure(self, trial: Any, base: TemporalConfig) -> TemporalConfig:
        """The configuration of a trial, which is asked for its parameters on the way.

        Raises:
            SettingsError: The space's values make no valid configuration of the base's task.
        """
        changes = self.function(trial)
        if not isinstance(changes, Mapping):
            raise SettingsError(
                f"space() of {self.name} returned {type(changes).__name__}.",
                "a dictionary of dotted keys and values, e.g. {'model.tcn.depth': 3}",
                "Correct the space.",
            )
        config = override(base, changes)
        check_task(config, base.task, f"This use of the space {self.name}")
        return config


def load_space(reference: str) -> Space:
    """A space by module name (`tune_spaces.va`) or file path (`my/space.py`).

    Raises:
        SettingsError: There is no such module or file, it can't be imported, or it has no
            function `space`.
    """
    module = _import(reference)
    function = getattr(module, "space", None)
    if not callable(function):
        raise SettingsError(
            f"{reference} has no function `space`.",
            "a module with `def space(trial)` that returns changes by dotted key",
            "See tune_spaces/va.py for an example.",
        )
    trials = getattr(module, _BUDGET, _DEFAULT_TRIALS)
    if not isinstance(trials, int) or trials < 1:
        raise SettingsError(f"{_BUDGET} of {reference} is {trials!r}.", "a whole number from 1 on")
    points = getattr(module, "POINTS", ())
    if not isinstance(points, list | tuple) or not all(isinstance(p, Mapping) for p in points):
        raise SettingsError(
            f"POINTS of {reference} is {points!r}.",
            "a list of dictionaries of dotted keys and values, e.g. [{'model.tcn.depth': 3}]",
        )
    return Space(reference, function, _fingerprint(module), trials, tuple(points))


def _import(reference: str) -> ModuleType:
    path = Path(reference)
    is_file = reference.endswith(".py") or "/" in reference
    if is_file and not path.is_file():
        raise _missing(f"There is no file {reference}.")
    try:
        if not is_file:
            return importlib.import_module(reference)
        name = f"raffect_space_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        if not is_file and error.name and reference.startswith(error.name):
            raise _missing(f"There is no module {reference}.") from None
        raise space_failed(reference, error) from error
    except Exception as error:
        raise space_failed(reference, error) from error


def _missing(got: str) -> SettingsError:
    return SettingsError(
        got, "a module such as tune_spaces.va, or the path of a Python file", "Correct --space."
    )


def space_failed(reference: str, error: Exception) -> SettingsError:
    """What to tell the user of an error in their space."""
    return SettingsError(
        f"The space {reference} fails: {type(error).__name__}: {error}",
        "a module with `def space(trial)` that returns changes by dotted key",
        "Correct it and give the command again.",
    )


def _fingerprint(module: ModuleType) -> str:
    """SHA-256 of the code of a space and of the spaces that it imports."""
    trees = {"": _parse(module)}
    waiting = [""]
    while waiting:
        for name in _imported(trees[waiting.pop()]) - set(trees):
            trees[name] = _parse(sys.modules[name])
            waiting.append(name)
    code = "\n".join(_code(trees[name]) for name in sorted(trees))
    return hashlib.sha256(code.encode()).hexdigest()


def _imported(tree: ast.Module) -> set[str]:
    """Modules of tune_spaces that a space imports from."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == _PACKAGE:
            found |= {f"{_PACKAGE}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.startswith(f"{_PACKAGE}.") and name in sys.modules}


def _parse(module: ModuleType) -> ast.Module:
    assert module.__file__ is not None
    return ast.parse(Path(module.__file__).read_text(encoding="utf-8"))


def _code(tree: ast.Module) -> str:
    """The code without docstrings and without the budget, which may grow."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    tree.body = [node for node in tree.body if not _is_budget(node)]
    return ast.dump(tree)


def _is_budget(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == _BUDGET for target in targets)
