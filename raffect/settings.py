"""The base of all settings: frozen, validated, overridden by dotted keys, hashed.

Knows no task and no stage; those are in config.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from raffect.errors import SettingsError
from raffect.inputs import read_input, reason_of

MOST_YAML_BYTES = 2**20
"""All settings of every stage written out take a hundredth of it."""
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

    def digest(self) -> str:
        """SHA-256 of the identity's canonical JSON."""
        return hash_json(self.identity())


def added(default: Any, **constraints: Any) -> Any:
    """A field that settings did not have before raffect 0.3 (see `Config.identity`)."""
    return Field(default, json_schema_extra=_ADDED, **constraints)


C = TypeVar("C", bound=Config)


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A copy of `config` with dotted keys changed, e.g. `{"model.tcn.depth": 4}`.

    SettingsError lists all unknown keys, wrong types and values out of range at once.
    """
    tree = config.model_dump(mode="python")
    for key, value in changes.items():
        node = tree
        *parents, leaf = key.split(".")
        for part in parents:
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
        raise SettingsError(
            "These settings are wrong:\n" + "\n".join(_describe(error)),
            "the keys that `--help` of the command names and the README's table explains",
            "Correct the options or the file and give the command again.",
        ) from None


def _describe(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        got = json.dumps(problem["input"], default=str)
        what = "no setting has this name" if problem["type"] == "extra_forbidden" else ""
        lines.append(f"  {key} = {got[:60]}: {what or problem['msg']}")
    return lines


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`--set a.b=c` options as dotted keys and YAML values; SettingsError lists the wrong ones."""
    bad = [text for text in assignments if "=" not in text or text.startswith("=")]
    if bad:
        raise SettingsError(
            f"--set takes key=value; got {', '.join(bad)}.",
            "dotted keys, e.g. --set model.tcn.depth=4",
            "Write each as key=value.",
        )
    pairs = (text.split("=", 1) for text in assignments)
    return {key.strip(): _parse_value(value) for key, value in pairs}


def _parse_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a YAML file as nested mappings; SettingsError if it does not hold them."""
    try:
        tree = yaml.safe_load(read_input(path, MOST_YAML_BYTES))
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
