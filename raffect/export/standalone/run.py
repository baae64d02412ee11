"""Predict a folder of crops, 00001.jpg and on, of one video: python run.py CROPS OUT.csv

Needs numpy, pillow, safetensors, torch and open_clip_torch; neither raffect nor Ray.
"""

import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import VisionTransformer
from PIL import Image
from safetensors.torch import load_file

from raffect.export.standalone.temporal import temporal
from raffect.export.standalone.video import Array, Run, predict_folder

HERE = Path(__file__).parent


@torch.inference_mode()
def encode(config: Any, of: Any, files: list[Path]) -> Array:
    """Features (crops, D) of one set."""
    encoder = config["encoders"][of["encoder"]]
    visual = open_clip.CLIP(**encoder["open_clip"]).visual.eval()
    state = load_file(HERE / encoder["weights"])
    visual.load_state_dict({k[7:]: v for k, v in state.items() if k.startswith("visual.")})
    if of["layer"] == "penultimate" and hasattr(visual, "attnpool"):
        width = visual.attnpool.c_proj.in_features
        visual.attnpool.c_proj = torch.nn.Linear(width, width)
        torch.nn.init.eye_(visual.attnpool.c_proj.weight)
        torch.nn.init.zeros_(visual.attnpool.c_proj.bias)
    elif of["layer"] == "penultimate":
        if not isinstance(visual, VisionTransformer):
            raise SystemExit("The penultimate layer of this tower is in the format onnx alone.")
        visual.proj = None
    pixels = json.loads((HERE / "preprocessing.json").read_text())[of["encoder"]]
    transform = image_transform_v2(PreprocessCfg(**pixels), is_train=False)
    rows = [visual(transform(Image.open(file))[None]) for file in files]
    return torch.cat([row[0] if isinstance(row, tuple) else row for row in rows]).numpy()


def load(member: Any) -> Run:
    """The temporal model."""
    w = load_file(HERE / member["weights"])

    @torch.inference_mode()
    def run(x: Array, present: Array, real: Array, look_back: Array) -> Array:
        inputs = torch.from_numpy(x), torch.from_numpy(present), bool(look_back)
        return temporal(w, member, *inputs).numpy()

    return run


if __name__ == "__main__":
    lines = predict_folder(HERE, Path(sys.argv[1]), encode, load)
    Path(sys.argv[2]).write_text("\n".join(lines) + "\n")
