"""Requests whose tensors have several rows, each of which is a request of its own."""

from collections.abc import Callable, Sequence

import numpy as np

Tensor = Callable[[str], np.ndarray | None]


def rows_of(tensor: Tensor, *names: str) -> list[Tensor]:
    """The inputs of each row of a request, as one that has no other row has them.

    Args:
        tensor: an input's values by name, shape [rows, …] each, None when it was not sent.
        names: inputs of which every request has one.
    """
    given = next((values for name in names if (values := tensor(name)) is not None), None)
    return [_row(tensor, index) for index in range(1 if given is None else len(given))]


def _row(tensor: Tensor, index: int) -> Tensor:
    def row(name: str) -> np.ndarray | None:
        values = tensor(name)
        return None if values is None else values[index : index + 1]

    return row


def stacked(rows: Sequence[np.ndarray], *padding: int) -> np.ndarray:
    """The rows' arrays as one; shorter ones end with padding.

    Args:
        rows: of one type and as many dimensions, different at most in their last one.
        padding: for all of it, or for each index of the last dimension but one.
    """
    longest = max(row.shape[-1] for row in rows)
    made = np.empty((len(rows), *rows[0].shape[:-1], longest), rows[0].dtype)
    made[...] = np.array(padding, rows[0].dtype)[:, np.newaxis] if len(padding) > 1 else padding[0]
    for index, row in enumerate(rows):
        made[index, ..., : row.shape[-1]] = row
    return made


class OpenRows:
    """Counts the rows of a request without a final response; used from one thread."""

    def __init__(self, rows: int) -> None:
        self.several = rows > 1
        self._open = rows

    def end(self) -> bool:
        """Ends a row; returns whether it was the last one, which ends the request."""
        self._open -= 1
        return not self._open
