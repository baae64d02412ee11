"""Files of a model and of a run: safetensors for weights, JSON for the rest, no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
METRICS = "metrics.json"
MODEL_FILES = (WEIGHTS, CONFIG, METRICS)

_STATE_WEIGHTS = "state.safetensors"
_STATE_FACTS = "state.json"
_BETWEEN = "//"


@dataclass(frozen=True)
class ModelFiles:
    """What the three files of a model hold.

    Attributes:
        weights: By parameter name.
        config: `config` (settings), `feature_dim`, `lineage` (features and encoder).
        metrics: Scores on validation, history, size.
    """

    weights: dict[str, Tensor]
    config: dict[str, Any]
    metrics: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write them into a local folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_plain(self.weights), folder / WEIGHTS)
        write_json(folder / CONFIG, self.config)
        write_json(folder / METRICS, self.metrics)


def write_state(
    folder: Path, weights: Mapping[str, Mapping[str, Tensor]], facts: dict[str, Any]
) -> None:
    """Write groups of tensors and facts into a local folder."""
    folder.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{group}{_BETWEEN}{name}": value
        for group, tensors in weights.items()
        for name, value in tensors.items()
    }
    save_file(_plain(flat), folder / _STATE_WEIGHTS)
    write_json(folder / _STATE_FACTS, {"groups": list(weights), **facts})


def read_state(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The groups of tensors (in the machine's memory) and the facts that `write_state` wrote."""
    facts: dict[str, Any] = json.loads((folder / _STATE_FACTS).read_text(encoding="utf-8"))
    weights: dict[str, dict[str, Tensor]] = {group: {} for group in facts.pop("groups")}
    for key, value in load_file(folder / _STATE_WEIGHTS).items():
        group, _, name = key.partition(_BETWEEN)
        weights[group][name] = value
    return weights, facts


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and machines; NaN is a bug here and raises."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors wants them: contiguous, apart from one another."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
