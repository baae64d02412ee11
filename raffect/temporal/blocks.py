"""Features in several arrays, as files and nodes gave them: none is copied to join them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


class FeatureBlocks:
    """Arrays `(rows, features)` of one type whose rows are numbered through, in their order."""

    def __init__(
        self, arrays: Sequence[NDArray[np.floating]], dim: int, dtype: np.dtype[np.floating]
    ) -> None:
        self._arrays = list(arrays)
        self.dtype = dtype
        self.bounds = np.cumsum([0, *map(len, self._arrays)])
        self.shape = (int(self.bounds[-1]), dim)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def arrays(self) -> Sequence[NDArray[np.floating]]:
        """The arrays themselves."""
        return self._arrays

    def block(self, number: int) -> NDArray[np.floating]:
        """One of the arrays, when the others are not needed."""
        return self.arrays[number]

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Copies of rows `(n, features)`, as NumPy's indexing has them; -1 is the last one."""
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        for here, block, inside in self.find(np.where(rows < 0, rows + len(self), rows)):
            found[here] = self.arrays[block][inside]
        return found

    def find(self, rows: NDArray[np.integer]) -> Iterator[tuple[slice, int, NDArray[np.integer]]]:
        """Stretches of `rows` in one block: where they are, the block, and the rows inside it.

        Segments lie in one block, or seldom in two: there are about as many as segments.
        """
        if not len(rows):
            return
        block = np.searchsorted(self.bounds, rows, side="right") - 1
        edges = np.flatnonzero(np.diff(block)) + 1
        for start, stop in zip([0, *edges], [*edges, len(rows)], strict=True):
            number = int(block[start])
            yield slice(start, stop), number, rows[start:stop] - self.bounds[number]
