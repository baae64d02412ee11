"""Settings from hostile YAML: mutated documents, and what a reader of their text would expect.

The oracle reads a document's nodes as text, without types of YAML. What is accepted must have, for
each key of the document, the value that its text says, and the base's value for every other key.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from raffect.affwild2.tasks import Task
from raffect.cli.options import settings
from raffect.config import TemporalConfig, recipe
from raffect.errors import SettingsError
from raffect.settings import flatten

DOCUMENTS = (
    """optimiser:
  lr: 1e-4
  weight_decay: 0.01
  epochs: 12
  clip_norm: none
  patience: null
model:
  input: none
  tcn: {depth: 4, channels: [64, 32, 16], kernel: 3, dropout: 0.25}
  transformer:
    layers: 2   # fewer
    heads: 4
losses:
  auxiliary: {expr: 0.5, au: .25}
""",
    """model.tcn.depth: 2
"model.width": 256
segments.window: 64
segments.stride: 48
segments.blend: "mean"
segments.predict_stride: ~
postprocess: fit
fold: 1/5
run.precision: float32
run.seed: 7
""",
    """common: &rate
  lr: 2.5E-3
optimiser:
  <<: *rate
  batch_size: 16
  accumulation: 2
model:
  head: batchnorm
  tcn.channels:
    - 32
    - 16
""".replace("common: &rate\n  lr: 2.5E-3\n", "").replace("*rate", "{lr: 2.5E-3}"),
    '{"optimiser": {"lr": 0.003, "epochs": 3}, "task": "va", "losses": {"mse_share": 0.5}}\n',
)
PLAIN = (
    "none", "None", "null", "~", "010", "0x1F", "1_000", "1e5", "1e-4", "-0", "3.0", "3.5", "+3",
    "0.1e1", "1e-400", "1/5", "fit", "mean", "l2", "float32", "[8]", "[4, 4.0]", "[1, 2]", "0.5",
    "&x 3", "!!int 3", "3 # three", "| 3", "'2'", '"0.25"', "4", "1:30", "true", "yes", "0",
)  # fmt: skip
ATOMS = (
    *PLAIN, "", "off", "0o17", "1e400", ".inf", ".nan", "nan", "9" * 30, "9" * 5_000, "inf",
    "2001-01-01", "2001-99-99", "[]", "{}", "{lr: 1}", "&a [*a]", "*x", "!!set {a}", "=", "9/2",
    "!!python/name:os.system", "!!binary aGk=", "!!bool maybe", "'", '"', '"\\ud800"', '"a\\0b"',
    "\ufeff", "é", "\x85", "> 3", "- 1", "[" * 400, "<<: {a: 1}", "%YAML 1.1", "---", "...",
    "\t", "４", "[true]",
)  # fmt: skip
_NULL = ("none", "null", "~", "")


def bomb(rng: random.Random) -> str:
    depth, width = rng.randint(2, 12), rng.randint(2, 12)
    lines = ["a0: &a0 [1]"]
    for level in range(1, depth):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join([*lines, f"model.tcn.channels: *a{depth - 1}\n"])


def revalued(rng: random.Random) -> str:
    """A document with other values for one or two of its keys: many are right."""
    text = rng.choice(DOCUMENTS)
    for _ in range(rng.choice((1, 1, 2))):
        key = rng.choice(re.findall(r"[\w.\"]+: (?=[^\n{])", text))
        near = ("none", "~", "0.5", "3", "0x1F", "010", "1e-4", "2", ".25", "1", "4.0", '"8"')
        before, _, after = text.partition(key)
        value = rng.choice(near if rng.random() < 0.7 else PLAIN)
        text = before + key + value + re.sub(r"^[^\n,}]*", "", after)
    return text


def mutated(rng: random.Random) -> str:
    if rng.random() < 0.02:
        return bomb(rng)
    if rng.random() < 0.5:
        return revalued(rng)
    text = rng.choice(DOCUMENTS)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(text) + 1)
        lines = text.splitlines(keepends=True) or [""]
        line = rng.randrange(len(lines))
        kind = rng.choice((0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7))
        if kind == 0:
            text = text[:at] + rng.choice(ATOMS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 3) :]
        elif kind == 2:
            text = "".join([*lines[:line], lines[line], *lines[line:]])
        elif kind == 3:
            key, colon, _ = lines[line].partition(": ")
            lines[line] = f"{key}{colon}{rng.choice(PLAIN if rng.random() < 0.7 else ATOMS)}\n"
            text = "".join(lines)
        elif kind == 4:
            lines[line] = " " * rng.randint(0, 4) + lines[line].lstrip()
            text = "".join(lines)
        elif kind == 5:
            text = text[:at] + rng.choice(":#[]{},&*!|>'\"%@`-? \n\t0123456789.e") + text[at:]
        elif kind == 6:
            other = rng.choice(DOCUMENTS)
            text = text[:at] + other[rng.randrange(len(other)) :]
        else:
            text = text[:at]
    return text


def said(node: Any, path: str = "") -> dict[str, Any]:
    """The texts of a document's values by dotted key; lists are lists of texts."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.value == "<<" and key.style is None:
                parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for part in reversed(parts):
                    merged |= said(part, path)
            else:
                found |= said(value, f"{path}.{key.value}" if path else key.value)
        if not node.value:
            return {}
        return merged | found
    return {path: as_text(node)}


def as_text(node: Any) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [as_text(item) for item in node.value]
    return node.value if isinstance(node, yaml.ScalarNode) else said(node)


def means(text: Any, value: Any) -> bool:
    """Whether a value is what a text says."""
    if isinstance(value, list | tuple):
        return isinstance(text, list) and len(text) == len(value) and all(map(means, text, value))
    if not isinstance(text, str):
        return False
    if value is None or value == "none":
        return text.strip().lower() in _NULL
    if isinstance(value, int | float):
        plain = text.replace("_", "")
        try:
            # float() would round whole numbers of many digits.
            return (plain.strip().isdecimal() and int(plain) == value) or float(plain) == value
        except ValueError:
            return text.lower().startswith(("0x", "0o")) and int(text, 0) == value
    same = text.strip() == str(value)
    # Folds are written anew.
    return same or [*map(int, re.findall(r"\d+", text))] == [*map(int, re.findall(r"\d+", value))]


def of_option(text: str) -> list[Any]:
    """What the value of `--set` may be taken for: its YAML, or the text itself."""
    try:
        node = yaml.compose(text, yaml.BaseLoader)
    except yaml.YAMLError:
        return [text]
    return [text] if node is None else [as_text(node), text]


def check(base: TemporalConfig, found: TemporalConfig, expected: dict[str, list[Any]]) -> None:
    """Each key has one of the values that it may have, all others that of the base."""
    before, after = flatten(base.canonical()), flatten(found.canonical())
    for key, choices in expected.items():
        parts = choices[0] if isinstance(choices[0], dict) else {}
        if parts or key not in after:
            check(base, found, {f"{key}.{name}": [one] for name, one in parts.items()})
        else:
            assert any(means(one, after[key]) for one in choices), (key, choices, after[key])
    changed = {key for key in after if after[key] != before[key]}
    assert all(any(f"{key}.".startswith(f"{of}.") for of in expected) for key in changed)


def attack(count: int, seed: int, folder: Path) -> Counter[str]:
    """Read so many documents by `--config` and by `--set`; how many were accepted and refused.

    Raises AssertionError for a wrong value, and whatever else than SettingsError comes.
    """
    rng = random.Random(seed)
    base, path = recipe(Task.VA), folder / "settings.yaml"
    keys = [*flatten(base.canonical()), "model.tcn", "optimiser.lr.x", "optimiser", "", " "]
    counts: Counter[str] = Counter()
    for _ in range(count):
        texts: dict[str, str] = {}
        document = mutated(rng)
        if by_option := rng.random() < 0.25:
            for _ in range(rng.randint(1, 3)):
                texts[rng.choice(keys)] = (
                    rng.choice(ATOMS) if rng.random() < 0.7 else document[:60]
                )
        else:
            path.write_bytes(document.encode("utf-8", "surrogatepass"))
        try:
            given = [f"{key}={text}" for key, text in texts.items()]
            found = settings(base, None if by_option else path, given)
        except SettingsError as error:
            counts["refused"] += 1
            if not 0 < len(str(error).encode()) < 20_000:
                raise AssertionError(document) from error
            continue
        counts["accepted"] += 1
        if by_option:
            expected = {key.strip(): of_option(text) for key, text in texts.items()}
        else:
            node = yaml.compose(path.read_bytes(), yaml.BaseLoader)
            expected = {key: [value] for key, value in said(node).items()}
        try:
            check(base, found, expected)
        except AssertionError as error:
            raise AssertionError(f"{texts or document!r}: {error}") from error
    return counts
