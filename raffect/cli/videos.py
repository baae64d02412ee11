"""predict --video: what a user sees of a video, or of a folder of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from raffect.cli.screen import Screen
from raffect.errors import DataError, RaffectError, SettingsError
from raffect.text import listed, numbers_text, printable

if TYPE_CHECKING:
    from raffect.predict.video import PredictedVideo, VideoPredictor, VideoSummary
    from raffect.store import Store
    from raffect.video.faces import FaceOptions

PLOT_SUFFIXES = (".png", ".html")
_MOST_ABSENT = 3
_MOST_TOLD = 10


@dataclass(frozen=True)
class VideoOptions:
    """What a user wants of a video."""

    source: str
    out: Path
    faces: FaceOptions
    plot: Path | None = None
    overlay: Path | None = None
    lenient: bool = False
    raw: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether the source is a folder of this machine."""
        return "://" not in self.source and Path(self.source).is_dir()

    def check(self) -> None:
        """Refuse what does not go together and what can't be written, before any work.

        Raises:
            SettingsError: Options that contradict each other, or an ending of no format.
            DataError: An output can't be written.
        """
        from raffect.affwild2.csvfile import check_output, is_device
        from raffect.predict.table import SUFFIXES, check_suffix

        self.faces.check()
        if self.is_folder and (self.plot or self.overlay):
            name = "--plot" if self.plot else "--overlay"
            raise SettingsError(
                f"{name} shows one video; {self.source} is a folder.",
                "--video FILE",
                f"Leave {name} out, or give one of the folder's videos.",
            )
        outputs: dict[str, tuple[Path | None, Sequence[str]]] = {
            "--out": (self.out, SUFFIXES),
            "--plot": (self.plot, PLOT_SUFFIXES),
            "--overlay": (self.overlay, (".mp4",)),
        }
        taken = {} if "://" in self.source else {Path(self.source).resolve(): "--video"}
        for option, (path, suffixes) in outputs.items():
            if path is None:
                continue
            # /dev/stdout has no ending to go by.
            if not is_device(path):
                check_suffix(path, option, suffixes)
            check_output(path)
            if other := taken.get(path.resolve()):
                raise SettingsError(
                    f"{option} and {other} are the same file, {path}.",
                    "a file of its own for each",
                    f"Give another {option}.",
                )
            taken[path.resolve()] = option


@dataclass
class _Told:
    """What came of the videos."""

    summaries: list[VideoSummary] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    rows: int = 0

    def complaint(self, out: Path) -> DataError | None:
        """What went wrong with some of the videos; None: nothing."""
        broken = [one for one in self.summaries if one.broken]
        problems = [one.breaks_off() for one in broken]
        problems += [_with_name(name, why) for name, why in self.failed.items()]
        if not problems:
            return None
        if len(problems) == 1:
            got = f"{problems[0].rstrip('.')}."
        else:
            more = len(problems) - _MOST_TOLD
            shown = [f"  {problem}" for problem in problems[:_MOST_TOLD]]
            shown += [f"  ... and {more:,} more"] if more > 0 else []
            every = len(self.summaries) + len(self.failed)
            got = "\n".join([f"{len(problems):,} of {every:,} videos are not whole:", *shown])
        rows = f"{out} has the {self.rows:,} rows that there are."
        return DataError(
            got, "videos that can be read to their end", f"{rows} --lenient takes that as done."
        )


def predict_videos(
    store: Store, screen: Screen, models: list[str], options: VideoOptions, as_json: bool
) -> None:
    """Predict a video or a folder of them, and tell of it.

    Raises:
        DataError: Some videos are broken, and their rows are written; unless `lenient`.
        RaffectError: As `VideoOptions.check`, `choose`, `load_detector` and `predict`.
    """
    options.check()
    predictor = _ready(store, models, options)
    faces = _say_faces(screen, predictor)
    told = _Told()
    if options.is_folder:
        _predict_folder(screen, predictor, options, told)
    else:
        _predict_one(screen, predictor, options, told)
    for name, words in predictor.chosen.describe_postprocess().items():
        of = f" of {name}" if len(models) > 1 else ""
        screen.say(f"Post-processing{of}: {words} (--raw leaves it out)")
    outputs = {"out": options.out, "plot": options.plot, "overlay": options.overlay}
    for name, path in outputs.items():
        if path is not None:
            rows = f": {told.rows:,} rows" if name == "out" else ""
            screen.path(f"{path} written{rows}.")
    complaint = told.complaint(options.out)
    if as_json:
        screen.json(_summary(predictor, faces, outputs, told))
    if complaint is not None and not options.lenient:
        raise complaint
    if complaint is not None:
        screen.note(complaint.got)


def _summary(
    predictor: VideoPredictor,
    faces: dict[str, str | None],
    outputs: dict[str, Path | None],
    told: _Told,
) -> dict[str, object]:
    return {
        **{name: str(path) for name, path in outputs.items() if path is not None},
        "rows": told.rows,
        "faces": faces,
        "videos": [one.to_json() for one in told.summaries],
        "failed": told.failed,
        "skipped": told.others,
        "postprocess": predictor.chosen.describe_postprocess(),
    }


def _ready(store: Store, models: list[str], options: VideoOptions) -> VideoPredictor:
    from raffect.predict.chosen import choose
    from raffect.predict.video import make_predictor

    chosen = choose(store, models, options.raw)
    return make_predictor(store, chosen, options.faces)


def _say_faces(screen: Screen, predictor: VideoPredictor) -> dict[str, str | None]:
    detector = predictor.detector
    if detector is None:
        screen.say("Faces: the frames as they are (--aligned)")
        return {"detector": None}
    screen.say(f"Faces: {detector.name}")
    if detector.warning:
        screen.note(detector.warning)
    return {"detector": detector.name, "digest": detector.digest, "warning": detector.warning}


def _predict_one(
    screen: Screen, predictor: VideoPredictor, options: VideoOptions, told: _Told
) -> None:
    from raffect.predict.table import write_tables
    from raffect.predict.video import persons_text

    with _reading(screen, predictor, options.source, "", options.plot is not None) as predicted:
        summary = predicted.summary
        told.rows = write_tables(options.out, predicted.table.schema, [predicted.table])
        told.summaries.append(summary)
    screen.say(persons_text(summary))
    _say_absent(screen, summary)
    chosen = predictor.chosen
    if options.plot is not None:
        from raffect.predict.plot import write_plot

        with screen.stage("Drawing the plot"):
            write_plot(options.plot, chosen, predicted)
    if options.overlay is not None:
        from raffect.predict.overlay import write_overlay

        with screen.stage("Writing the overlay") as bar:
            write_overlay(options.overlay, options.source, chosen, predicted, bar.tick)


def _predict_folder(
    screen: Screen, predictor: VideoPredictor, options: VideoOptions, told: _Told
) -> None:
    from raffect.predict.parts import Parts, find_videos
    from raffect.predict.table import schema_of

    parts = Parts.of(options.out, predictor)
    videos, others = find_videos(Path(options.source), options.out, parts.folder)
    told.others = [*map(printable, others)]
    if others:
        screen.say(f"Skipped, as no videos by their ending: {listed(told.others)}")
    found = {video: parts.finished(video) for video in videos}
    if before := sum(summary is not None for summary in found.values()):
        screen.say(f"{before:,} of {len(videos):,} videos were finished before.")
    for number, video in enumerate(videos, 1):
        if found[video] is not None:
            continue
        try:
            key = parts.key(video)
            place = f" ({number:,} of {len(videos):,})"
            with _reading(screen, predictor, video, place) as predicted:
                parts.keep(video, key, predicted)
                found[video] = predicted.summary
            _say_absent(screen, predicted.summary)
        except DataError as error:
            told.failed[printable(video.name)] = error.got
            screen.say(f"✗ {_with_name(printable(video.name), error.got)}")
        except OSError as error:
            told.failed[printable(video.name)] = error.strerror or str(error)
    told.summaries = [summary for summary in found.values() if summary is not None]
    if not told.summaries:
        raise _none_usable(options.source, told.failed)
    usable = [video for video, summary in found.items() if summary is not None]
    told.rows = parts.join(options.out, schema_of(predictor.chosen), usable)
    screen.say(
        f"{parts.folder} keeps the table of each video: given again, the command predicts only"
        " what is new or has changed."
    )


def _none_usable(folder: str, failed: dict[str, str]) -> RaffectError:
    first = next(iter(failed.values()))
    return DataError(
        f"None of the {len(failed):,} videos in {folder} can be used. {first}",
        "a folder with a video in which faces can be found",
        "See above what is wrong with each.",
    )


@contextmanager
def _reading(
    screen: Screen,
    predictor: VideoPredictor,
    source: str | Path,
    place: str = "",
    thumbnails: bool = False,
) -> Iterator[PredictedVideo]:
    """The stage of one video."""
    # An address may hold a password.
    name = "the stream" if "://" in str(source) else printable(Path(source).name)
    with screen.stage(f"Predicting {name}{place}") as bar:
        predicted = predictor.predict(source, bar.tick, thumbnails)
        summary = predicted.summary
        count = len(summary.persons)
        people = f", {count} person{'s' * (count != 1)}" if predictor.detector else ""
        rate = f", {summary.frames / max(bar.seconds, 1e-9):,.0f}/s"
        bar.tell(f"{summary.frames:,} frames{people}{rate}")
        yield predicted


def _with_name(video: str, why: str) -> str:
    """What is wrong with a video, which may name it."""
    return why if video in why else f"{video}: {why}"


def _say_absent(screen: Screen, summary: VideoSummary) -> None:
    if summary.absent:
        screen.note(f"{summary.video} has no person {numbers_text(summary.absent, _MOST_ABSENT)}.")
