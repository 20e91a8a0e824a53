"""NumPy's values in pickles, created here from checked parts.

NumPy's own `dtype.__setstate__` accepts any size and flags that a file gives, such as those of pointers for numbers,
and can crash or corrupt memory. Formats: `numpy.dtype.__reduce__` and `numpy.ndarray.__reduce__`.
"""

import math
import pickle
from typing import Any

import numpy as np


class PickledType:
    """A data type; `kind` is a name such as f8, U3 or O8."""

    def __init__(self, kind: str, *_: Any) -> None:
        self.dtype = np.dtype(str(kind))

    def __setstate__(self, state: tuple) -> None:
        """`state`: (version, byte order, ...), with the unit (metadata, (name, count, ...)) at the end for times."""
        if self.dtype.kind in "mM":
            name, count = state[-1][1][:2]
            unit = name if isinstance(name, str) else name.decode()
            self.dtype = np.dtype(f"{self.dtype.kind}8" + ("" if unit == "generic" else f"[{count}{unit}]"))
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray(np.ndarray):
    """An array, whose values a pickle gives with `__setstate__`."""

    def __setstate__(self, state: tuple) -> None:
        """`state`: (version, shape, data type, whether in Fortran's order, values)."""
        _, shape, kind, is_fortran, values = state
        num_values = math.prod(shape)
        length = num_values if kind.dtype.hasobject else num_values * kind.dtype.itemsize
        if min(shape, default=0) < 0 or len(values) != length:
            raise pickle.UnpicklingError(f"an array of shape {shape} has {len(values)} bytes")
        checked: Any = (1, shape, kind.dtype, bool(is_fortran), values)
        super().__setstate__(checked)


def pickled_array(*_: Any) -> PickledArray:
    """An array without values, instead of `numpy._core.multiarray._reconstruct`."""
    return PickledArray(0)


def pickled_scalar(kind: PickledType, value: Any) -> Any:
    """A scalar, instead of `numpy._core.multiarray.scalar`."""
    array = pickled_array()
    array.__setstate__((1, (), kind, False, value))
    return array[()]


SAFE_NUMPY: list[Any] = [PickledArray, (PickledType, "numpy.dtype"), (PickledArray, "numpy.ndarray")]
"""For `torch.serialization.safe_globals`; NumPy before version 2 has `numpy.core`, and files refer to it."""
for _core in ("core", "_core"):
    SAFE_NUMPY.append((pickled_scalar, f"numpy.{_core}.multiarray.scalar"))
    SAFE_NUMPY.append((pickled_array, f"numpy.{_core}.multiarray._reconstruct"))
