"""The parts of a model as graphs with plain inputs, for ONNX and TorchScript.

Shapes as in temporal/model.py: B series, T frames, D features of S sets, O outputs.
"""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from raffect.affwild2.tasks import Task
from raffect.clip.encoder import FrameEncoder
from raffect.config import FeatureType
from raffect.temporal.model import CausalConvolution, TemporalModel, activate

TEMPORAL_INPUTS = ("features", "present", "real", "look_back")
ENCODER_INPUTS = ("pixels",)


class EncoderGraph(nn.Module):
    """Features `(B, D)` float32 of pixels `(B, height, width, 3)` uint8, red first.

    The pixels have the encoder's own size; the features are those of `use_layer`'s encoder, of
    the precision in which the model's own were kept.
    """

    def __init__(self, encoder: FrameEncoder, dtype: FeatureType) -> None:
        super().__init__()
        self.encoder = encoder
        self.rounds = dtype == "float16"

    def forward(self, pixels: Tensor) -> Tensor:
        """As the class says."""
        features = self.encoder.encode(pixels.permute(0, 3, 1, 2).float() / 255)
        return features.half().float() if self.rounds else features


class TemporalGraph(nn.Module):
    """Predictions `(B, T, O)` of series of features, before blending and post-processing."""

    def __init__(self, model: TemporalModel, task: Task) -> None:
        super().__init__()
        self.model = plain(model)
        self.task = task

    def forward(
        self, features: Tensor, present: Tensor, real: Tensor, look_back: Tensor
    ) -> Tensor:
        """`features` `(B, T, D)` float32; `present` `(B, T, S)` bool: the frame has a crop of its
        own; `real` `(B, T)` bool: it is no padding, which is at the end and may hold anything;
        `look_back` `()` bool: the Transformer shows each frame no later one.
        """
        found = self.model(features, present, real, back_only=look_back)
        return activate(self.task, found[self.task])


def plain(model: TemporalModel) -> TemporalModel:
    """A copy on the CPU in evaluation mode, whose weight norms are worked out.

    By new convolutions: torch's remove_parametrizations edits a class that the original shares.
    """
    model = deepcopy(model).cpu().eval().requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, CausalConvolution):
            old = module.convolution
            new = nn.Conv1d(
                old.in_channels, old.out_channels, old.kernel_size[0], dilation=old.dilation[0]
            )
            new.load_state_dict({"weight": old.weight, "bias": old.bias})
            module.convolution = new.requires_grad_(False)
    return model
