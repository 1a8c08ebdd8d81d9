"""Arrays as bytes: how classifiers are stored without pickles."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_npy(*arrays: NDArray[Any]) -> bytes:
    """Arrays as .npy, one after the other: unlike .npz, the same bytes every time."""
    stream = io.BytesIO()
    for array in arrays:
        np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def from_npy(content: bytes) -> list[NDArray[Any]]:
    """The arrays that `to_npy` was given."""
    stream, arrays = io.BytesIO(content), []
    while stream.tell() < len(content):
        arrays.append(np.load(stream, allow_pickle=False))
    return arrays
