"""The base of all settings: frozen, validated, overridden by dotted keys, hashed.

Knows no task and no stage; those are in config.py.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from raffect.errors import SettingsError
from raffect.inputs import read_input, reason_of
from raffect.plain_yaml import NotPlainError, load_yaml
from raffect.text import printable

MOST_YAML_BYTES = 2**20
"""All settings of every stage written out take a hundredth of it."""
NONE = "none"
"""How the documentation writes null, and what settings of a choice have for "not at all"."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Depth = Annotated[int, Field(ge=0, le=64)]

_ADDED: dict[str, Any] = {"added": True}


class Config(BaseModel):
    """Base of all settings: unknown keys and infinite values are refused, values can't change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
    explained_by: ClassVar[str] = ""
    """The command that lists these settings, where they are a user's."""
    options: ClassVar[Mapping[str, str] | None] = None
    """Settings whose option has another name; None where they have no options, but --set."""

    @field_validator("*", mode="before")
    @classmethod
    def _as_documented(cls, value: Any, info: ValidationInfo) -> Any:
        """`none` is null where null is meant, and the other way round; true is no number."""
        takes = _takes(cls, str(info.field_name))
        if isinstance(value, str) and value.strip().lower() == NONE:
            return None if NoneType in takes and NONE not in takes else value
        if value is None and NONE in takes and NoneType not in takes:
            return NONE
        if not {bool, Any, object} & takes and _holds_bool(value):
            raise ValueError("true and false are no value of it")
        return value

    def canonical(self) -> dict[str, Any]:
        """The settings as JSON types, the same for equal settings."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """The canonical settings by which a plan recognises work that was begun before.

        Settings that came later (`added`) are left out at their default, so that what an earlier
        version made with the same settings is still found to be the same.
        """
        found = self.canonical()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Config):
                found[name] = value.identity()
            elif field.json_schema_extra == _ADDED and value == field.default:
                del found[name]
        return found

    @classmethod
    def as_typed(cls, key: str) -> str:
        """A setting as users type it: its dotted key, or its option."""
        if cls.options is None:
            return key
        name = key.partition(".")[0]
        return cls.options.get(name) or f"--{name.replace('_', '-')}"

    def digest(self) -> str:
        """SHA-256 of the identity's canonical JSON."""
        return hash_json(self.identity())


def added(default: Any, **constraints: Any) -> Any:
    """A field that settings did not have before raffect 0.3 (see `Config.identity`)."""
    return Field(default, json_schema_extra=_ADDED, **constraints)


C = TypeVar("C", bound=Config)


@cache
def _takes(cls: type[Config], name: str) -> frozenset[Any]:
    """The types and literal values in a field's annotation, on every level."""

    def inside(annotation: Any) -> frozenset[Any]:
        parts = get_args(annotation)
        if get_origin(annotation) is Annotated:
            parts = parts[:1]
        return frozenset().union(*map(inside, parts)) if parts else frozenset({annotation})

    return inside(cls.model_fields[name].annotation)


def _holds_bool(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_bool, value))
    return isinstance(value, bool)


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A copy of `config` with dotted keys changed, e.g. `{"model.tcn.depth": 4}`.

    A mapping leaves the keys that it does not hold at the defaults of their class. SettingsError
    lists all unknown keys, wrong types and values out of range at once.
    """
    tree = config.model_dump(mode="python")
    for key, value in changes.items():
        node = tree
        *parents, leaf = key.split(".")
        for end, part in enumerate(parents, start=1):
            if (above := ".".join(parents[:end])) in changes:
                raise _given_twice(f"{above} and {key}")
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                # A plain value can't have parts; pydantic then names the key as unknown.
                child = node[part] = {}
            node = child
        node[leaf] = value
    return build(type(config), tree)


def build(cls: type[C], tree: Mapping[str, Any]) -> C:
    """Settings of class `cls` from nested mappings; SettingsError lists all that is wrong."""
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        listing = cls.explained_by
        raise SettingsError(
            "These settings are wrong:\n" + "\n".join(_describe(cls, error)),
            f"what `{listing}` lists" if listing else "settings as raffect writes them",
            "Correct the options or the file and run the command again.",
        ) from None


def _describe(cls: type[Config], error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        value, path = problem["input"], [str(part) for part in problem["loc"]]
        while path and isinstance(value, dict) and len(value) == 1:
            # An unknown mapping is what its one key was given for.
            ((last, value),) = value.items()
            path.append(str(last))
        key, got = printable(".".join(path)), json.dumps(value, default=str)
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = _near(key, list(_keys(cls)))
            what = "no setting has this name" + (f"; did you mean {near}?" if near else "")
        # A rule about several settings has no key.
        lines.append(f"  {cls.as_typed(key)} = {got[:60]}: {what}" if key else f"  {what}")
    return lines


def _keys(cls: type[Config], prefix: str = "") -> Iterator[str]:
    """The dotted keys of all settings."""
    for name, field in cls.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _near(key: str, known: list[str]) -> str:
    """The setting that was meant: one of nearly this name, or of its last part."""
    leaf = key.rpartition(".")[2]
    ends = {name: name.rpartition(".")[2] for name in known}
    close = difflib.get_close_matches(key, known, 1, 0.75)
    last = difflib.get_close_matches(leaf, list(ends.values()), 1, 0.75)
    found = close or [name for name, end in ends.items() if last and end == last[0]]
    return " or ".join(found[:3])


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`--set a.b=c` options as dotted keys and YAML values; SettingsError lists the wrong ones."""
    bad = [text for text in assignments if "=" not in text or text.startswith("=")]
    if bad:
        raise SettingsError(
            f"--set takes key=value; got {', '.join(bad)}.",
            "dotted keys, e.g. --set model.tcn.depth=4",
            "Write each as key=value.",
        )
    found: dict[str, Any] = {}
    for key, text in (text.split("=", 1) for text in assignments):
        # Of a setting that is given twice the last counts, as with any option.
        name = key.strip()
        found[name] = _parse_value(name, text)
    return found


def _parse_value(key: str, text: str) -> Any:
    if not text.strip():
        raise SettingsError(
            f"--set {printable(key)}= has no value.",
            f"a value; `{NONE}` for those that may be left out",
            f"E.g. --set {printable(key)}={NONE}",
        )
    try:
        value = load_yaml(text)
    except NotPlainError as error:
        got = f"--set {printable(key)} can't be read: {error}"
        raise SettingsError(got, "a plain value", "Write it without.") from None
    except yaml.YAMLError:
        return text.strip()
    written = text.strip()
    if value is None and written.lower() not in ("null", "~"):
        return written
    # Without quotes it is what the user wrote, also behind a #.
    return written if isinstance(value, str) and written[0] not in "'\"" else value


def _given_twice(name: str) -> SettingsError:
    return SettingsError(
        f"{printable(name)}: given twice.", "each setting once", "Leave one of the two out."
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; SettingsError where two are the same, or one is no name."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if not isinstance(key, str):
            raise SettingsError(
                f"{printable(prefix)}{key!r} is no name of a setting.",
                "dotted names",
                "Correct the key.",
            )
        name = f"{prefix}{key}"
        below = flatten(value, f"{name}.") if value and isinstance(value, dict) else {name: value}
        if flat.keys() & below.keys():
            raise _given_twice(name)
        flat |= below
    return flat


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a YAML file as nested mappings; SettingsError if it does not hold them."""
    try:
        tree = load_yaml(read_input(path, MOST_YAML_BYTES))
    except (OSError, yaml.YAMLError) as error:
        why = reason_of(error) if isinstance(error, OSError) else error
        raise SettingsError(
            f"{path} can't be read as YAML: {why}",
            "a YAML file of settings",
            "Correct --config or the file.",
        ) from None
    if not isinstance(tree, dict):
        raise SettingsError(
            f"{path} holds no mapping.", "a YAML mapping of settings", "Correct the file."
        )
    return tree
