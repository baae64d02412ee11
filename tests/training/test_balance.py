from __future__ import annotations

import numpy as np
import pytest

from raffect.training.balance import class_weights

COUNTS = np.array([177198, 16573, 10771, 9080, 95463, 78751, 31615, 165866])


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_average_to_one_over_the_frames(power: float):
    weights = class_weights(COUNTS, power, over_frames=True)
    assert (weights * COUNTS).sum() / COUNTS.sum() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(weights / weights[0], (COUNTS / COUNTS[0]) ** -power, rtol=1e-5)


def test_an_absent_class_weighs_nothing():
    weights = class_weights(np.array([3, 0, 1]), 1.0, over_frames=True)
    assert weights.tolist() == pytest.approx([2 / 3, 0, 2])


def test_over_classes_the_mean_weight_of_those_that_are_there_is_one():
    weights = class_weights(np.array([4, 0, 1]), 0.5, over_frames=False)
    assert weights.tolist() == pytest.approx([2 / 3, 0, 4 / 3])
    assert class_weights(np.array([4, 0, 1]), 0.0, over_frames=False).tolist() == [1, 0, 1]
