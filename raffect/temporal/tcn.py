"""A causal temporal convolutional network over padded batches.

Source: Bai et al., "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for
Sequence Modeling" (2018), with PReLU for ReLU as in the recipe (Zhou et al.).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.parametrizations import weight_norm

from raffect.config import TCNConfig


class CausalConvolution(nn.Module):
    """Weight-normed convolution over `(batch, channels, frames)` that sees no later frame."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.convolution = weight_norm(nn.Conv1d(inputs, outputs, kernel, dilation=dilation))

    def forward(self, x: Tensor) -> Tensor:
        """As many frames as came in."""
        y: Tensor = self.convolution(pad(x, (self.reach, 0)))
        return y


class ResidualBlock(nn.Module):
    """Two causal convolutions, each with PReLU and dropout, beside a residual path."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        self.first = CausalConvolution(inputs, outputs, kernel, dilation)
        self.second = CausalConvolution(outputs, outputs, kernel, dilation)
        self.activations = nn.ModuleList(nn.PReLU() for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        same = inputs == outputs
        self.residual = nn.Identity() if same else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """`(batch, inputs, frames)` to `(batch, outputs, frames)`, zero where padded."""
        y = zero(self.dropout(self.activations[0](self.first(x))), padding)
        y = self.dropout(self.activations[1](self.second(y)))
        return zero(self.activations[2](y + self.residual(x)), padding)


class TCN(nn.Module):
    """Residual blocks with dilations 1, 2, 4, ...; no blocks at depth 0."""

    def __init__(self, inputs: int, config: TCNConfig) -> None:
        super().__init__()
        channels = (inputs, *config.block_channels())
        self.outputs = channels[-1]
        self.blocks = nn.ModuleList(
            ResidualBlock(channels[i], channels[i + 1], config.kernel, 2**i, config.dropout)
            for i in range(config.depth)
        )

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Features over time.

        Args:
            x: `(batch, inputs, frames)`, zero where padded.
            padding: `(batch, 1, frames)` bool, True where padded; None: nowhere.

        Returns:
            `(batch, outputs, frames)`.
        """
        for block in self.blocks:
            x = block(x, padding)
        return x


def zero(x: Tensor, padding: Tensor | None) -> Tensor:
    """`x` with zeros where padded, whatever is there (NaN included)."""
    return x if padding is None else x.masked_fill(padding, 0.0)
