"""A task's data where a model is trained."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from raffect.config import FeaturePlace
from raffect.temporal.batches import DeviceFeatures, DeviceTimelines
from raffect.temporal.data import TaskData
from raffect.temporal.normalise import training_statistics
from raffect.temporal.shares import Shares


class ResidentData:
    """A task's data on a device; trials that share a process share it.

    A worker that has only its `shares` of the videos holds no other's features. `place` says where
    those are of a GPU, which may be shared with other processes.
    """

    def __init__(
        self,
        data: TaskData,
        device: torch.device,
        shares: Shares | None = None,
        place: FeaturePlace = "auto",
        is_shared: bool = False,
    ) -> None:
        self.data = data
        self.device = device
        self.held = data if shares is None else shares.hold(data)
        features = DeviceFeatures(self.held.features, device, place, is_shared)
        self.train = DeviceTimelines(features, self.held.train, device)
        self.validation = DeviceTimelines(features, self.held.validation, device)
        self._statistics: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def statistics(self, shares: Shares) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of the training features, `(features,)`."""
        if shares.count not in self._statistics:
            found = training_statistics(self.held, shares, self.device)
            self._statistics[shares.count] = found
        return self._statistics[shares.count]
