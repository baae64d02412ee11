"""A video's persons as a picture or a page, by the ending of its name."""

from __future__ import annotations

from pathlib import Path

from raffect.predict.chosen import Chosen
from raffect.predict.curves import curves_of, left_out
from raffect.predict.plot_html import write_html
from raffect.predict.plot_png import write_png
from raffect.predict.video import PredictedVideo


def write_plot(path: Path, chosen: Chosen, predicted: PredictedVideo) -> None:
    """Draw a video's persons as `.png` or `.html`.

    Raises:
        DataError: The file can't be written.
        NotThereError: The extra `video` is not installed.
    """
    write = write_html if path.suffix.lower() == ".html" else write_png
    write(path, predicted.summary.video, curves_of(chosen, predicted), left_out(predicted))
