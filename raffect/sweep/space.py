"""Search spaces: define-by-run functions in modules of their own."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import raffect
from raffect import interrupts
from raffect.code import locate, reach
from raffect.config import TemporalConfig, check_task
from raffect.errors import SettingsError
from raffect.settings import override

_PACKAGE = "tune_spaces"
_BUDGET = "TRIALS"
_DEFAULT_TRIALS = 50
_BESIDE = "raffect_space_"
"""Prefix of the package that a space in a file is loaded in, so that `from . import x` works."""
_helpers: dict[str, Path] = {}
"""Modules that spaces have imported from the folders that they lie in."""


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        function: Takes an Optuna trial, returns changes of the base configuration by dotted key.
        code: SHA-256 of what the module and the spaces it imports do; comments don't count.
        helpers: The same by name for all else of the user's own code that it imports.
        trials: The module's own budget.
        points: Known-good points, as changes of the base configuration by dotted key; they are
            tried after the recipe.
    """

    name: str
    function: Callable[[Any], Mapping[str, Any]]
    code: str
    trials: int
    points: tuple[Mapping[str, Any], ...] = ()
    helpers: Mapping[str, str] = field(default_factory=dict)

    def configure(self, trial: Any, base: TemporalConfig) -> TemporalConfig:
        """The configuration of a trial, which is asked for its parameters on the way.

        Raises:
            SettingsError: The space's values make no valid configuration of the base's task.
        """
        with _told(self.name):
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

    A file imports what lies beside it as a script does: `import helper`, `from . import helper`.

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
    if is_file(reference):
        function = _run_beside(Path(reference).resolve().parent, function)
    code, counted = _fingerprint(module)
    assert module.__file__ is not None
    try:
        found = find_helpers(reference, Path(module.__file__))
    except (SyntaxError, ValueError, OSError) as error:
        raise space_failed(reference, error) from error
    helpers = {name: of for name, (_, of) in found.items() if of and name not in counted}
    return Space(reference, function, code, trials, tuple(points), helpers)


def is_file(reference: str) -> bool:
    """Whether a space is named by its file."""
    return reference.endswith(".py") or "/" in reference


def _import(reference: str) -> ModuleType:
    path = Path(reference)
    if is_file(reference) and not path.is_file():
        raise _missing(f"There is no file {reference}.")
    try:
        with _told(reference):
            if is_file(reference):
                return _import_file(path.resolve())
            return importlib.import_module(reference)
    except ModuleNotFoundError as error:
        if not is_file(reference) and error.name and reference.startswith(error.name):
            raise _missing(f"There is no module {reference}.") from None
        raise space_failed(reference, error) from error
    except SettingsError:
        raise
    except Exception as error:
        raise space_failed(reference, error) from error


def _import_file(path: Path) -> ModuleType:
    package = ModuleType(_package_of(path.parent))
    package.__path__ = [str(path.parent)]
    spec = importlib.util.spec_from_file_location(f"{package.__name__}.the_space", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    importlib.invalidate_caches()
    with _beside(path.parent, anew=True):
        sys.modules[package.__name__] = package
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module


def _package_of(folder: Path) -> str:
    return f"{_BESIDE}{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def _run_beside(folder: Path, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function, which may import what lies in the folder when it is called."""

    @wraps(function)
    def run(trial: Any) -> Any:
        with _beside(folder):
            return function(trial)

    return run


@contextmanager
def _beside(folder: Path, anew: bool = False) -> Iterator[None]:
    """A folder's modules can be imported, `anew` or as before; those of other spaces are gone."""
    for name in [name for name, of in _helpers.items() if anew or of != folder]:
        del _helpers[name]
        sys.modules.pop(name, None)
    known = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - known:
            source = getattr(sys.modules[name], "__file__", None)
            own = source and Path(source).is_relative_to(folder) and _is_own(name, Path(source))
            if own or name.startswith(_BESIDE):
                _helpers[name] = folder


def find_helpers(
    reference: str, source: Path, folder: Path | None = None
) -> dict[str, tuple[Path, str | None]]:
    """The user's own modules that a space imports, directly or not: file and digest of the code.

    They are found without running them: those of a file beside it, those of a module in `folder`,
    all else as Python does. What is installed is not among them, nor is raffect, whose code has a
    digest of its own. SyntaxError, ValueError and OSError come through.
    """
    package, name = "", reference
    if is_file(reference):
        folder = source.resolve().parent
        package = f"{_package_of(folder)}."
        name = f"{package}the_space"
    found: dict[str, Path] = {}

    def find(wanted: str) -> Path | None:
        path = _find(wanted.removeprefix(package), folder, wanted.startswith(package))
        if path is None or path == source or not _is_own(wanted, path):
            return None
        return found.setdefault(wanted, path)

    sources = reach({name: source}, find)
    return {key.removeprefix(package): (found[key], sources[key].digest) for key in sorted(found)}


def _find(name: str, folder: Path | None, only_beside: bool) -> Path | None:
    """The source of a module as a space in a folder would import it."""
    if folder is not None:
        path = locate(name, [str(folder)])
        if path is not None or only_beside:
            return path
    known = getattr(sys.modules.get(name), "__file__", None)
    return Path(known) if known is not None and known.endswith(".py") else locate(name)


def _is_own(name: str, path: Path) -> bool:
    """Whether a module is the user's: neither raffect, nor installed, nor Python's."""
    top = name.partition(".")[0]
    if top in (_PACKAGE, raffect.__name__):
        return top == _PACKAGE
    python = (sysconfig.get_path(key) for key in ("stdlib", "platstdlib"))
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(of) for of in python)


def _missing(got: str) -> SettingsError:
    return SettingsError(
        got, "a module such as tune_spaces.va, or the path of a Python file", "Correct --space."
    )


@contextmanager
def _told(reference: str) -> Iterator[None]:
    """Code of the user's: what would end the command, as sys.exit does, is told as an error."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        unknown = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        by_signal = unknown or interrupts.received() is not None
        if isinstance(error, KeyboardInterrupt) and by_signal:
            raise
        raise space_failed(reference, error) from error


def space_failed(reference: str, error: BaseException) -> SettingsError:
    """What to tell the user of an error in their space."""
    return SettingsError(
        f"The space {reference} fails: {type(error).__name__}: {error}",
        "a module with `def space(trial)` that returns changes by dotted key",
        "Correct it and run the command again.",
    )


def _fingerprint(module: ModuleType) -> tuple[str, set[str]]:
    """SHA-256 of the code of a space and of spaces of raffect's that it imports, and their names.

    As it was counted before 0.3, so that a sweep of that time is found to be the same.
    """
    trees = {"": _parse(module)}
    waiting = [""]
    while waiting:
        for name in _imported(trees[waiting.pop()]) - set(trees):
            trees[name] = _parse(sys.modules[name])
            waiting.append(name)
    code = "\n".join(_code(trees[name]) for name in sorted(trees))
    return hashlib.sha256(code.encode()).hexdigest(), set(trees)


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
    # Bytes: with a BOM or a `coding:` line as Python reads them.
    return ast.parse(Path(module.__file__).read_bytes())


def _code(tree: ast.Module) -> str:
    """The code without docstrings and without the budget, which may grow."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    tree.body = [node for node in tree.body if not _is_budget(node)]
    return _dump(tree)


def _dump(tree: ast.Module) -> str:
    """As Python 3.11 writes it: a sweep goes on under another Python."""
    for node in ast.walk(tree):
        # Since 3.12. Where there are some, 3.11 can't read the space.
        if getattr(node, "type_params", None) == []:
            del node.type_params  # type: ignore[attr-defined]
    if sys.version_info >= (3, 13):
        return ast.dump(tree, show_empty=True)
    return ast.dump(tree)


def _is_budget(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == _BUDGET for target in targets)
