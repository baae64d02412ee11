"""raffect from Python and from notebooks: stores, sweeps as tables, models that predict.

Each function does what the command of its name does, with the same defaults and errors. Loading,
predicting and evaluating do not start Ray; `tune` does. `import raffect` itself is cheap: each
name is imported when it is first used.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from raffect.affwild2.tasks import SPECS, parse_split, parse_task
from raffect.errors import DataError, NotThereError, SettingsError
from raffect.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from raffect.affwild2.evaluation import Evaluation
    from raffect.affwild2.predictions import VideoPredictions
    from raffect.store.raw import RawFolder
    from raffect.sweep.leaderboard import SweepView
    from raffect.temporal.ensemble import Ensemble
    from raffect.video.faces import FaceOptions


class OpenStore:
    """A store and its contents.

    Args:
        uri: A folder or `s3://bucket/prefix`; None: RAFFECT_STORE, else `./raffect-store`.

    Raises:
        NotThereError: The folder does not exist.
    """

    def __init__(self, uri: str | Path | None = None) -> None:
        self.store = Store.open(None if uri is None else str(uri))
        if self.store.is_absent:
            raise NotThereError(
                f"The store {self.store.uri} does not exist.",
                "a folder that `raffect prepare` or `raffect demo` has made, or s3://bucket/prefix",
                "Correct the path.",
            )

    @property
    def uri(self) -> str:
        """Its address: a path, or `s3://bucket/prefix`."""
        return self.store.uri

    def __repr__(self) -> str:
        return f"OpenStore({self.uri!r})"

    def sweeps(self) -> pd.DataFrame:
        """One row per sweep, by name: task, trials, best and expected score, device hours."""
        import pandas as pd

        from raffect.sweep.leaderboard import list_sweeps

        found: list[Mapping[str, Any]] = [
            {**view.to_json(), "trials": sum(view.counts.values())}
            for view in list_sweeps(self.store)
        ]
        return pd.DataFrame(found).set_index("name") if found else pd.DataFrame()

    def models(self) -> list[str]:
        """Names of single models (`raffect train`) and ensembles."""
        return sorted(self.store.names("models"))

    def features(self) -> list[str]:
        """Names of the sets of features."""
        return sorted(self.store.names("features"))


class Model:
    """A trained model, ready to predict; what `load_model` returns.

    Attributes:
        task: va, expr or au.
        columns: Names of its outputs: valence and arousal, or probabilities.
        feature_dim: Number of input values per frame.
    """

    def __init__(self, store: Store, name: str, ensemble: Ensemble) -> None:
        self._store = store
        self._ensemble = ensemble
        self.name = name
        self.task = ensemble.config.task.value
        self.columns = list(SPECS[ensemble.config.task].columns)
        self.feature_dim = ensemble.members[0].feature_dim

    def __repr__(self) -> str:
        return f"Model({self.name!r}, task={self.task!r}, feature_dim={self.feature_dim})"

    @property
    def score(self) -> float:
        """The score of its best epoch on validation, chosen there: see `SweepView.evidence`."""
        return float(self._ensemble.members[0].metrics["score"])

    def predict(
        self,
        features: ArrayLike | None = None,
        *,
        frames: str | Path | None = None,
        split: str | None = None,
        video: str | Path | None = None,
        numbers: ArrayLike | None = None,
        raw: bool = False,
        aligned: bool = False,
        detector: str | None = None,
        detect_at: int | None = None,
        persons: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Predict every frame of a video, or of a split.

        Args:
            features: `(crops, feature_dim)`, those of one video by the encoder that the model was
                trained with.
            frames: A folder of crops `00001.jpg`, ... of one video, or `s3://bucket/prefix`.
            split: `train` or `validation`, of the store's dataset.
            video: A file or a URL; faces are found in it, as `raffect predict --video` does.
            numbers: `(crops,)` 1-based frames that the rows of `features` are of; by default
                1, 2, 3, ...
            raw: Leave out the model's post-processing.
            aligned: The frames of `video` are crops of one face as they are.
            detector: Another detector's ONNX file; None: the one of the extra `video`.
            detect_at: Pixels of the longer side to which larger frames are shrunk to look for
                faces; None: 640.
            persons: Numbers of the persons in `video`; None: all.

        Returns:
            One row per frame, indexed by frame number; for a split by video and frame number; for
            a video by person and frame number, with time, face, confidence and box beside the
            values. A video that breaks off has the rows that could be read, and is warned of.

        Raises:
            SettingsError: Not exactly one of `features`, `frames`, `split` and `video`.
            DataError: The features have another width, or are not finite; the video can't be
                read, or has no face.
        """
        if sum(source is not None for source in (features, frames, split, video)) != 1:
            raise SettingsError(
                "predict takes one of features, frames, split and video.",
                "features=ARRAY, frames=FOLDER, split='validation', or video=FILE",
                "Say what to predict.",
            )
        ensemble = self._ensemble.raw() if raw else self._ensemble
        if video is not None:
            from raffect.video.faces import FaceOptions

            faces = FaceOptions(persons, aligned, detector, detect_at)
            return self._of_video(ensemble, video, faces)
        if features is not None:
            return self._table(_of_features(ensemble, features, numbers))
        from raffect.predict.files import predict_folder
        from raffect.temporal.ensemble import predict_split

        if frames is not None:
            return self._table(predict_folder(self._store, ensemble, _folder(frames), []))
        import pandas as pd

        found = predict_split(self._store, ensemble, parse_split(str(split)))
        tables = {one.video: self._table(one) for one in found}
        return pd.concat(tables, names=["video"])

    def _of_video(self, ensemble: Ensemble, video: str | Path, faces: FaceOptions) -> pd.DataFrame:
        from raffect.predict.chosen import Chosen
        from raffect.predict.video import make_predictor

        chosen = Chosen((self.name,), (ensemble,), (tuple(self.columns),))
        found = make_predictor(self._store, chosen, faces).predict(video)
        if found.summary.broken:
            warnings.warn(found.summary.breaks_off(), stacklevel=3)
        table: pd.DataFrame = found.table.to_pandas()
        return table.set_index(["person", "frame"])

    def _table(self, video: VideoPredictions) -> pd.DataFrame:
        import pandas as pd

        index = pd.Index(video.frames, name="frame")
        return pd.DataFrame(video.values, index=index, columns=self.columns)


def _folder(frames: str | Path) -> RawFolder:
    from raffect.store.raw import RawFolder

    return RawFolder.of(frames, "frames")


def _of_features(
    ensemble: Ensemble, features: ArrayLike, numbers: ArrayLike | None
) -> VideoPredictions:
    from raffect.temporal.inference import predict_features, whole_video

    values = np.asarray(features)
    wanted = ensemble.members[0].feature_dim
    if values.ndim != 2 or values.shape[1] != wanted or not len(values):
        raise DataError(
            f"Features of shape {values.shape}.",
            f"(crops, {wanted}): those that the model was trained on",
            "Give the features of the model's own encoder (`raffect extract`).",
        )
    if not np.isfinite(values).all():
        raise DataError("Features that are not finite.", "finite numbers", "Leave such crops out.")
    of = np.arange(1, len(values) + 1) if numbers is None else np.asarray(numbers)
    if of.shape != (len(values),) or (of < 1).any() or (np.diff(of) <= 0).any():
        raise DataError(
            "numbers are no frames of these crops.",
            f"{len(values)} ascending whole numbers from 1 on",
            "Give a number per row of features.",
        )
    found = [
        predict_features(member, values, of.astype(np.int32), int(of.max()))
        for member in ensemble.members
    ]
    return whole_video("", ensemble.average(found))


def open_store(uri: str | Path | None = None) -> OpenStore:
    """A store: a folder or `s3://bucket/prefix`; None: RAFFECT_STORE, else `./raffect-store`.

    Raises:
        NotThereError: The folder does not exist.
    """
    return OpenStore(uri)


def load_sweep(store: OpenStore | str | Path, name: str) -> SweepView:
    """A sweep's leaderboard, also while it runs; `.to_dataframe()` and `.curves()` are tables.

    Raises:
        NotThereError: The store has no such sweep.
    """
    from raffect.sweep.leaderboard import load_sweep as load

    return load(_opened(store).store, name)


def load_model(store: OpenStore | str | Path, name: str) -> Model:
    """A model by its name, a sweep's best trial (`va`), or one of its trials (`va:7`).

    Raises:
        NotThereError: The store has no model of this name, or the trial saved none.
    """
    from raffect.predict.models import resolve
    from raffect.temporal.ensemble import load_ensemble

    opened = _opened(store).store
    return Model(opened, name, load_ensemble(opened, resolve(opened, name)))


def tune(
    store: OpenStore | str | Path,
    task: str,
    features: str | Sequence[str] = "clip",
    name: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    address: str | None = None,
    overwrite: bool = False,
    **search: Any,
) -> SweepView:
    """Search for the best model of a task, as `raffect tune` does; called again, it continues.

    Args:
        task: va, expr or au.
        features: Name of a set of features in the store, or several.
        name: Name of the sweep; by default the task.
        settings: Changes to the base configuration, by dotted key: `{"model.tcn.depth": 2}`.
        address: Address of a Ray cluster; by default RAY_ADDRESS, else this machine.
        overwrite: Start over if it is finished or has other settings.
        search: Options of `raffect tune`: `trials=20`, `space="my_space.py"`, `sampler="tpe"`,
            `concurrent=2`, ...

    Raises:
        SettingsError: Everything that is wrong with the settings, at once.
        NotThereError: The store has no such features.
        ConflictError: A sweep of this name was started with other settings.
    """
    from raffect.config import recipe
    from raffect.context import Context
    from raffect.settings import build, override
    from raffect.store.features import feature_names, plain_names
    from raffect.store.layout import check_name
    from raffect.sweep.settings import SweepSettings
    from raffect.sweep.tune import tune as run

    chosen = parse_task(task)
    sets = [features] if isinstance(features, str) else list(features)
    base = override(recipe(chosen, len(feature_names(sets))), settings or {})
    wanted = build(SweepSettings, {"max_epochs": base.optimiser.epochs, **search})
    return run(
        _opened(store).store,
        chosen,
        plain_names(sets),
        check_name(name or chosen.value),
        wanted,
        base,
        context=Context(address, overwrite),
    )


def evaluate(
    task: str,
    predictions: str | Path | pd.DataFrame,
    annotations: str | Path,
    split: str = "validation",
    fold: str | None = None,
) -> Evaluation:
    """Score predictions against an annotation tree, as `raffect evaluate` and the challenge do.

    Args:
        predictions: A predictions file, or a table as `Model.predict(split=...)` returns it.
        annotations: Root of the challenge's folders, or `s3://bucket/prefix`.
        fold: `i/k`, for models that were trained on this fold.

    Raises:
        DataError: A file is malformed, or a valid frame has no prediction.
    """
    from raffect.affwild2.annotations import load_annotations
    from raffect.affwild2.evaluation import evaluate as run
    from raffect.affwild2.predictions import VideoPredictions, read_predictions

    chosen = parse_task(task)
    labels = load_annotations(str(annotations), chosen, parse_split(split), fold)
    if isinstance(predictions, str | Path):
        return run(chosen, read_predictions(Path(predictions), chosen), labels)
    if list(predictions.columns) != list(SPECS[chosen].columns) or predictions.index.nlevels != 2:
        raise DataError(
            f"A table of {', '.join(map(str, predictions.columns))} by"
            f" {', '.join(map(str, predictions.index.names))}.",
            f"{', '.join(SPECS[chosen].columns)} by video and frame",
            "Give what `load_model(store, name).predict(split='validation')` returns.",
        )
    found = {
        str(video): VideoPredictions(
            str(video),
            table.index.get_level_values(1).to_numpy(np.int32),
            table.to_numpy(np.float64),
        )
        for video, table in predictions.groupby(level=0, sort=False)
    }
    return run(chosen, found, labels)


def _opened(store: OpenStore | str | Path) -> OpenStore:
    return store if isinstance(store, OpenStore) else OpenStore(store)
