"""settings: every setting of a stage, by the models that check them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer

from raffect.cli.options import JsonOption, QuietOption
from raffect.cli.screen import Screen

if TYPE_CHECKING:
    from raffect.settings import Config

COMMANDS = ("finetune", "extract", "train")
_AS_TRAIN = ("tune", "ablate")
"""Commands whose --set and --config take what `train` takes."""
_BITS = 2**31
"""A bound that nobody meets."""
_SIMPLE = {int: "integer", float: "number", str: "text", bool: "true or false"}


class SettingFacts(NamedTuple):
    """A setting by its dotted key: what it takes, its default, and what it means."""

    key: str
    takes: str
    default: str
    meaning: str


def settings(
    command: Annotated[
        str | None,
        typer.Argument(metavar="[COMMAND]", help="finetune, extract, train, tune or ablate."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print them as docs/settings.md.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List what --set and --config take: type, range, default and meaning of each setting."""
    from raffect.errors import SettingsError

    screen = Screen(quiet, as_json)
    wanted = COMMANDS if command is None else ("train",) if command in _AS_TRAIN else (command,)
    if wanted[0] not in COMMANDS:
        raise SettingsError(
            f"{command} takes no settings by --set or --config.",
            ", ".join([*COMMANDS, *_AS_TRAIN]),
            "Give one of them; `raffect --help` lists all commands.",
        )
    found = {name: list_settings(name) for name in wanted}
    if as_json:
        screen.json({name: [one._asdict() for one in rows] for name, rows in found.items()})
    elif markdown:
        screen.path(to_markdown(found))
    else:
        for name, rows in found.items():
            screen.styled(f"\n[bold]raffect {name}[/]{_also(name)}")
            screen.table(["=setting", "takes", "default", "meaning"], rows)


def list_settings(command: str) -> list[SettingFacts]:
    """The settings of `finetune`, `extract` or `train`; where tasks differ, va, expr and au."""
    from raffect.affwild2.tasks import Task
    from raffect.config import ExtractConfig, FinetuneConfig, recipe

    if command == "train":
        return list(_facts([recipe(task) for task in Task]))
    return list(_facts([FinetuneConfig() if command == "finetune" else ExtractConfig()]))


def to_markdown(found: dict[str, list[SettingFacts]]) -> str:
    """The settings as a document."""
    lines = [
        "# Settings",
        "",
        "What `--set KEY=VALUE` and the YAML file of `--config` take, as `raffect settings"
        " --markdown` prints it.",
        "The defaults are the recipe of the paper; where tasks differ: va / expr / au.",
    ]
    for name, rows in found.items():
        lines += ["", f"## raffect {name}{_also(name)}", ""]
        lines += ["| setting | takes | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{row.key}` | {' | '.join(row[1:])} |" for row in rows]
    return "\n".join(lines)


def _also(name: str) -> str:
    return f" (and {' and '.join(_AS_TRAIN)})" if name == "train" else ""


def _facts(configs: Sequence[Config], prefix: str = "") -> Iterator[SettingFacts]:
    from raffect.settings import Config

    for name, field in type(configs[0]).model_fields.items():
        if name == "task":
            # Of the command's argument.
            continue
        values = [getattr(config, name) for config in configs]
        if isinstance(values[0], Config):
            yield from _facts(values, f"{prefix}{name}.")
            continue
        texts = dict.fromkeys(map(_text, values))
        yield SettingFacts(
            f"{prefix}{name}",
            _takes(field.annotation, field.metadata),
            " / ".join(texts),
            field.description or "",
        )


def _text(value: Any) -> str:
    from raffect.text import short_value

    if value is None:
        return "none"
    return json.dumps(value) if isinstance(value, tuple) else short_value(value)


def _takes(annotation: Any, metadata: Iterable[Any]) -> str:
    """A type and its range in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [each for one in parts[1:] for each in getattr(one, "metadata", ())]
        return _takes(parts[0], [*metadata, *inner])
    if origin is Literal:
        return ", ".join(map(str, parts))
    if origin is tuple:
        return f"list; each {_takes(parts[0], ())}"
    if parts:
        of = [part for part in parts if part is not type(None)]
        return " or ".join([*(_takes(part, metadata) for part in of), "none"])
    return _SIMPLE[annotation] + _range(metadata)


def _range(metadata: Iterable[Any]) -> str:
    bounds = {
        sign: value
        for one in metadata
        for sign in ("ge", "gt", "le", "lt")
        if (value := getattr(one, sign, None)) not in (None, _BITS)
    }
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    if {"ge", "le"} <= bounds.keys():
        return f", {bounds['ge']:g} to {bounds['le']:g}"
    found = [f"{words[sign]} {value:.10g}" for sign, value in bounds.items()]
    return f", {', '.join(found)}" if found else ""
