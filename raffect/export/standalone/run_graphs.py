"""Predict a folder of crops with the graphs: python run_graphs.py CROPS OUT.csv [torchscript]

Needs numpy, pillow, and onnxruntime or torch; neither raffect nor Ray.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raffect.export.standalone.video import Array, Run, predict_folder

HERE, BATCH = Path(__file__).parent, 64


def graph(name: str) -> Callable[..., Array]:
    """A graph as a function of arrays: by torch where it is asked for, else by ONNX Runtime."""
    if sys.argv[3:] == ["torchscript"]:
        import torch

        module = torch.jit.load(HERE / f"{name}.pt")  # type: ignore[no-untyped-call]
        return torch.inference_mode()(lambda *x: module(*map(torch.from_numpy, x)).numpy())
    import onnxruntime

    session = onnxruntime.InferenceSession(HERE / f"{name}.onnx")
    names = [each.name for each in session.get_inputs()]
    return lambda *x: session.run(None, dict(zip(names, x, strict=True)))[0]


def encode(config: Any, of: Any, files: list[Path]) -> Array:
    """Features (crops, D) of one set, from pixels (crops, height, width, 3), red first."""
    wanted = json.loads((HERE / "preprocessing.json").read_text())[of["encoder"]]
    height, width = wanted["size"]
    how = getattr(Image.Resampling, wanted["interpolation"].upper(), Image.Resampling.BICUBIC)

    def pixels(file: Path) -> Array:
        image = Image.open(file).convert("RGB")
        if wanted["resize_mode"] != "squash" and image.width * height != image.height * width:
            raise SystemExit(f"{file} is not {width}:{height}: cut it out so, then run this again")
        return np.asarray(image.resize((width, height), how))

    run = graph(of["graph"])
    batches = (files[start : start + BATCH] for start in range(0, len(files), BATCH))
    return np.concatenate([run(np.stack([pixels(file) for file in batch])) for batch in batches])


def load(member: Any) -> Run:
    """The temporal model."""
    return graph(member["graph"])


if __name__ == "__main__":
    lines = predict_folder(HERE, Path(sys.argv[1]), encode, load)
    Path(sys.argv[2]).write_text("\n".join(lines) + "\n")
