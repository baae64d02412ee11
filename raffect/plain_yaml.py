"""YAML of plain values from anybody's hand: read as one expects, or refused with the line.

PyYAML reads YAML 1.1, where `no` is false, `1e-4` text, `010` eight and `1:30` ninety; here YAML
1.2's core schema holds. A document that stands for more than it says (an alias in an alias in an
alias), says a key twice, or makes other things than plain values is refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MOST_VALUES = 10_000
"""Values of a document, aliases written out: a hundred times those of all settings."""
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": "<<",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LONGEST_NUMBER = 400


class NotPlainError(yaml.YAMLError):
    """A document that is YAML, and more than plain values."""


class _Loader(yaml.SafeLoader):
    pass


_Loader.yaml_implicit_resolvers = {}
_Loader.yaml_constructors = {
    f"{_TAG}{name}": getattr(yaml.SafeLoader, f"construct_yaml_{name}")
    for name in ("null", "bool", "str", "seq", "map")
}
_PATTERNS = {f"{_TAG}{name}": re.compile(rf"(?:{of})\Z") for name, of in _SCALARS.items()}
for _tag, _pattern in _PATTERNS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, None)


def _int(loader: _Loader, node: ScalarNode) -> int:
    text = node.value.lower()
    return int(text, 0 if text.startswith(("0o", "0x")) else 10)


def _float(loader: _Loader, node: ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor(f"{_TAG}int", _int)
_Loader.add_constructor(f"{_TAG}float", _float)


def load_yaml(text: str | bytes) -> Any:
    """The value of a YAML document.

    Raises:
        NotPlainError: It is more than plain values, or too large.
        yaml.YAMLError: It is no YAML.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _size(node, set(), {}) > MOST_VALUES:
                raise NotPlainError(f"it stands for more than {MOST_VALUES:,} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise NotPlainError("it is nested too deeply") from None


def _size(node: Node, above: set[int], known: dict[int, int]) -> int:
    """How many values a node stands for, aliases written out."""
    if id(node) in above:
        raise _refused(node, "a value that holds itself")
    if id(node) not in known:
        above.add(id(node))
        below = 0
        if isinstance(node, ScalarNode):
            _check_scalar(node)
        elif node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
            raise _refused(node, f"{node.tag.removeprefix(_TAG)} is no plain list or mapping")
        elif isinstance(node, SequenceNode):
            below = sum(_size(item, above, known) for item in node.value)
        else:
            below = sum(_size(value, above, known) for _, value in node.value)
            _check_keys(node)
        known[id(node)] = 1 + below
        above.discard(id(node))
    return known[id(node)]


def _check_scalar(node: ScalarNode) -> None:
    if _CONTROL.search(node.value):
        raise _refused(node, "a control character")
    pattern = _PATTERNS.get(node.tag)
    if node.tag != f"{_TAG}str" and (pattern is None or not pattern.match(node.value)):
        raise _refused(node, f"no plain {node.tag.removeprefix(_TAG)}")
    if node.tag == f"{_TAG}int" and len(node.value) > _LONGEST_NUMBER:
        raise _refused(node, "a number of so many digits")


def _check_keys(node: Node) -> None:
    assert isinstance(node, MappingNode)
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode) or key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
            raise _refused(key, "a key that is no name")
        if _CONTROL.search(key.value):
            raise _refused(key, "a control character in a key")
        if key.value in seen:
            raise _refused(key, f"{key.value!r} is there twice")
        seen.add(key.value)


def _refused(node: Node, what: str) -> NotPlainError:
    mark = node.start_mark
    return NotPlainError(f"line {mark.line + 1}, column {mark.column + 1}: {what}")
