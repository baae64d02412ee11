"""Figures of the code base, for `make house`: what its size and structure are now.

Without arguments the checkout that this file is in; with a folder, another one, e.g. a worktree
of an older commit, so that before and after are measured alike.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGES = ("raffect", "tune_spaces")
LONGEST = 450


def sources(root: Path) -> dict[str, Path]:
    """Files by dotted module name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST, modules: Mapping[str, Path]) -> set[str]:
    """Own modules that a file imports anywhere, in functions and for type checkers too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in modules else node.module for name in names}
    return found & set(modules)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def folders(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The same arrows between the parts directly below raffect."""

    def part(module: str) -> str:
        return ".".join(module.split(".")[:2])

    found: dict[str, set[str]] = {}
    for module, others in graph.items():
        found.setdefault(part(module), set()).update(map(part, others))
    # The package itself only holds the version.
    return {name: others - {name, "raffect"} for name, others in found.items()}


def comments(text: str) -> Iterator[str]:
    """The comments of a file, line by line."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def code_lines(tree: ast.AST, text: str) -> int:
    """Lines that are neither blank, nor a comment alone, nor a docstring."""
    drop: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            drop |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(1 for n, line in lines if n not in drop and line.strip() and line.strip()[0] != "#")


def figures(root: Path) -> dict[str, str]:
    """All figures of a checkout, in words."""
    modules = sources(root)
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    graph = {name: imported(tree, modules) - {name} for name, tree in trees.items()}
    lengths = {name: len(text.splitlines()) for name, text in texts.items()}
    code = sum(code_lines(trees[name], texts[name]) for name in modules)
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    imports = sum(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    comment_lines = sum(1 for text in texts.values() for _ in comments(text))
    loose = sum(text.count("dict[str, Any]") for text in texts.values())
    long = sorted(name for name, lines in lengths.items() if lines > LONGEST)
    total = sum(lengths.values())
    return {
        "files": f"{len(modules)}",
        "lines": f"{total:,}",
        "code lines": f"{code:,}",
        f"files over {LONGEST} lines": ", ".join(long) or "none",
        "circles of files": f"{len(circles(graph))}",
        "circles of folders": f"{len(circles(folders(graph)))}",
        "functions per 1,000 code lines": f"{1000 * functions / code:.0f}",
        "imports, share of lines": f"{100 * imports / total:.1f} %",
        "comments, share of lines": f"{100 * comment_lines / total:.1f} %",
        "dict[str, Any]": f"{loose}",
    }


def main(arguments: list[str]) -> None:
    """Print the figures."""
    root = Path(arguments[0]) if arguments else Path(__file__).parent.parent
    for name, value in figures(root).items():
        print(f"{name:32} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
