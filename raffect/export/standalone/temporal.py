"""An exported temporal model in plain torch: its weights are those of model.safetensors."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import TransformerEncoderLayer
from torch.nn.functional import conv1d, linear, normalize, pad, prelu


def temporal(
    w: dict[str, Tensor], member: Any, x: Tensor, present: Tensor, look_back: bool
) -> Tensor:
    """Predictions (B, T, O) of features (B, T, D); `present` (B, T, S): crops of their own."""
    task, m = member["config"]["task"], member["config"]["model"]
    dims, width = [each["dim"] for each in member["sets"]], m["width"]
    if m["input"] == "zscore":
        x = (x - w["normalise.mean"].float()) / w["normalise.std"].float()
    elif m["input"] == "l2":
        x = torch.cat([normalize(part, dim=-1) for part in torch.split(x, dims, -1)], -1)
    absent = torch.repeat_interleave(~present, torch.tensor(dims), -1)
    x = (x + absent * w["missing"]).transpose(1, 2)
    for i in range(m["tcn"]["depth"]):
        y, block = x, f"tcn.blocks.{i}."
        for k, part in enumerate(("first", "second")):
            name = f"{block}{part}.convolution."
            g, v = (w[f"{name}parametrizations.weight.original{n}"] for n in (0, 1))
            kernel = g * v / v.norm(dim=(1, 2), keepdim=True)
            y = pad(y, ((m["tcn"]["kernel"] - 1) * 2**i, 0))
            y = conv1d(y, kernel, w[f"{name}bias"], dilation=2**i)
            y = prelu(y, w[f"{block}activations.{k}.weight"])
        if f"{block}residual.weight" in w:
            x = conv1d(x, w[f"{block}residual.weight"], w[f"{block}residual.bias"])
        x = prelu(y + x, w[f"{block}activations.2.weight"])
    x = linear(x.transpose(1, 2), w["project.weight"][..., 0], w["project.bias"])
    t, frames = m["transformer"], x.shape[1]
    if t["layers"] and t["positions"] == "sinusoidal":
        steps = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10_000) / width))
        angle = torch.arange(frames).float()[:, None] * steps
        x = x + torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]
    mask = torch.full((frames, frames), -math.inf).triu(1) if look_back else None
    for i in range(t["layers"]):
        layer = TransformerEncoderLayer(width, t["heads"], t["feedforward"], batch_first=True)
        first = f"transformer.layers.{i}."
        layer.load_state_dict({k[len(first) :]: v for k, v in w.items() if k.startswith(first)})
        x = layer.eval()(x, mask)
    h = {k.partition(f"heads.{task}.")[2]: v for k, v in w.items()}
    if m["head"] == "batchnorm":
        x = linear(x, h["first.weight"], h["first.bias"])
        x = (x - h["norm.mean"]) * (h["norm.variance"] + 1e-5).rsqrt() * h["norm.weight"]
        x = linear(x + h["norm.bias"], h["last.weight"], h["last.bias"])
    else:
        x = linear(linear(x, h["0.weight"], h["0.bias"]).relu(), h["3.weight"], h["3.bias"])
    if task == "va":
        return x.clamp(-1, 1)
    return x.softmax(-1) if task == "expr" else x.sigmoid()
