"""What code does, as digests: comments, words and layout do not count, what it imports does."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

Find = Callable[[str], Path | None]
"""The source of a module by its dotted name; None where it is not followed."""
_ROOT = Path(__file__).parent
_ENTRIES = {
    "dataset": ("affwild2.prepare",),
    "encoder": ("clip.finetune",),
    "features": ("clip.extract", "temporal.import_features"),
    "model": ("temporal.train",),
    "ensemble": ("temporal.ensembling",),
    "sweep": ("sweep.trial", "sweep.trial_on_workers"),
}
"""By what is made, the modules that make it."""
_NUMBERS = ("affwild2", "clip", "config", "settings", "store.features", "temporal", "training")
"""Of what those import, all that numbers depend on."""


@cache
def code_digest(kind: str) -> str:
    """SHA-256 of the code of raffect that decides about the numbers of a dataset, a model, ..."""
    wanted = tuple(f"{_ROOT.name}.{name}" for name in _NUMBERS)

    def find(name: str) -> Path | None:
        if not any(name == of or name.startswith(f"{of}.") for of in wanted):
            return None
        plain = _ROOT.parent.joinpath(*name.split("."))
        options = (plain.with_name(f"{plain.name}.py"), plain / "__init__.py")
        return next((path for path in options if path.is_file()), None)

    entries = {
        f"{_ROOT.name}.{name}": (_ROOT / name.replace(".", "/")).with_suffix(".py")
        for name in _ENTRIES[kind]
    }
    sources = reach(entries, find).items()
    known = {name: source.digest for name, source in sources if source.digest}
    return hashlib.sha256(repr(sorted(known.items())).encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """A module's code: `digest` of what it does, None for nothing, and the names it may import."""

    digest: str | None
    imports: frozenset[str]


def reach(entries: Mapping[str, Path], find: Find) -> dict[str, Source]:
    """The entries and all modules that they import, directly or not, as far as `find` goes.

    SyntaxError, ValueError and OSError come through.
    """
    found: dict[str, Source] = {}
    waiting = dict(entries)
    while waiting:
        name, path = waiting.popitem()
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name] = read_source(path, package)
        for wanted in found[name].imports - found.keys() - waiting.keys():
            if (source := find(wanted)) is not None:
                waiting[wanted] = source
    return found


def read_source(path: Path, package: str) -> Source:
    """The code of a file that is a module of a package."""
    return _read(path, path.stat().st_mtime_ns, package)


@cache
def _read(path: Path, changed: int, package: str) -> Source:
    words: list[str] = []
    imports: list[ast.Import | ast.ImportFrom] = []
    _spell(ast.parse(path.read_bytes()), words, imports)
    digest = hashlib.sha256(" ".join(words).encode("utf-8", "surrogatepass")).hexdigest()
    return Source(digest if len(words) > 1 else None, frozenset(_names(imports, package)))


def _spell(node: ast.AST, words: list[str], imports: list[ast.Import | ast.ImportFrom]) -> None:
    """A tree in words, without bare strings and empty fields: the same in each Python."""
    words.append(type(node).__name__)
    if isinstance(node, ast.Import | ast.ImportFrom):
        imports.append(node)
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, ast.AST):
            words.append(field)
            _spell(value, words, imports)
        elif isinstance(value, list):
            if kept := [one for one in value if not _is_docstring(one)]:
                words.append(f"{field}[")
                for one in kept:
                    if isinstance(one, ast.AST):
                        _spell(one, words, imports)
                    else:
                        words.append(repr(one))
                words.append("]")
        elif value is not None:
            words += (field, repr(value))


def _is_docstring(node: object) -> bool:
    """Those of attributes too."""
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)


def _names(imports: Iterable[ast.Import | ast.ImportFrom], package: str) -> Iterator[str]:
    """Dotted names that statements may import, packages on the way included.

    Of `from a import b` it can't be seen whether b is a module: both `a` and `a.b` are named.
    """
    for node in imports:
        base: list[str] = []
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")
            base = above[: len(above) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
        for alias in node.names:
            parts = [*base, *alias.name.split(".")]
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def locate(name: str, folders: list[str] | None = None) -> Path | None:
    """The source of a module below some folders (None: sys.path), found without running it."""
    where: Any = folders
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if end > 1 and where is None:
            return None
        spec = PathFinder.find_spec(".".join(parts[:end]), where)
        if spec is None:
            return None
        where = spec.submodule_search_locations
    source = spec.origin if spec is not None and spec.has_location else None
    return Path(source) if source is not None and source.endswith(".py") else None
