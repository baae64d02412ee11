"""The models of one prediction of videos: their columns, and what identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from raffect.affwild2.tasks import SPECS, Task
from raffect.errors import SettingsError
from raffect.predict.models import resolve
from raffect.settings import hash_json
from raffect.store import Store
from raffect.temporal.ensemble import Ensemble, load_ensemble
from raffect.temporal.inference import ModelBundle


@dataclass(frozen=True)
class Chosen:
    """Models as they were named, and the columns of their values in a table.

    Attributes:
        columns: By model; one that several models have begins with the model's name.
    """

    names: tuple[str, ...]
    ensembles: tuple[Ensemble, ...]
    columns: tuple[tuple[str, ...], ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The task of each model."""
        return tuple(each.config.task for each in self.ensembles)

    def digest(self) -> str:
        """The same for models that predict the same, under the same names."""
        members = [[_digest(one) for one in each.members] for each in self.ensembles]
        weights = [each.weights.canonical() for each in self.ensembles]
        return hash_json([self.names, members, weights])

    def describe_postprocess(self) -> dict[str, str]:
        """What is done with the predictions of each model, in words; nothing: left out."""
        pairs = zip(self.names, self.ensembles, strict=True)
        told = {name: ensemble.describe_postprocess() for name, ensemble in pairs}
        return {name: words for name, words in told.items() if words}


def choose(store: Store, names: Sequence[str], raw: bool = False) -> Chosen:
    """Models of the store by names as `resolve` takes them; `raw` without post-processing.

    Raises:
        SettingsError: A model is named twice, or an ambiguous name.
        NotThereError: There is no such model or trial.
    """
    files = [resolve(store, name) for name in names]
    folders = [each.folder for each in files]
    if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
        raise SettingsError(
            f"A model is named twice: {', '.join(twice)}.", "each model once", "Name it once."
        )
    ensembles = [load_ensemble(store, each) for each in files]
    own = [SPECS[each.config.task].columns for each in ensembles]
    every = [column for columns in own for column in columns]
    columns = tuple(
        tuple(f"{name}.{column}" if every.count(column) > 1 else column for column in of)
        for name, of in zip(names, own, strict=True)
    )
    return Chosen(tuple(names), tuple(each.raw() if raw else each for each in ensembles), columns)


def _digest(member: ModelBundle) -> str:
    weights = hashlib.sha256()
    for name, tensor in sorted(member.model.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    fitted = member.postprocess
    after = None if fitted is None else fitted.canonical()
    return hash_json([weights.hexdigest(), member.config.canonical(), dict(member.lineage), after])
