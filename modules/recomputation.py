"""Recomputes tensors of a block in the backward pass from other saved tensors, instead of saving them.

Frozen weights need no saved inputs, but adapters attached to them do. If the input of a layer, such as a normalisation,
is saved anyway, recomputing its output is cheaper than saving it. The function and the gradients stay the same.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

Function = Callable[..., torch.Tensor]


class _Recomputed:
    """`out`, to be recomputed as `function(*sources)`; sources may be recomputed, too.

    The backward pass unpacks each view once; the recomputed tensor is released after the last one.
    """

    def __init__(self, out: torch.Tensor, function: Function, sources: "list[torch.Tensor | _View]"):
        self.out: torch.Tensor | None = out  # kept while the block runs, so that no other tensor gets its storage
        self.dtype, self.function, self.sources = out.dtype, function, sources
        kind = "cpu" if out.device.type == "meta" else out.device.type
        self.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        self.num_views = self._num_unpacked = 0
        self._value: torch.Tensor | None = None

    def value(self) -> torch.Tensor:
        value = self._value
        if value is None:
            kind, dtype, enabled = self.autocast
            with torch.no_grad(), torch.autocast(kind, dtype, enabled):
                value = self.function(*map(_unpack, self.sources))
        self._num_unpacked += 1
        self._value = None if self._num_unpacked % self.num_views == 0 else value
        return value


class _View:
    """A view of a recomputed tensor."""

    def __init__(self, owner: _Recomputed, tensor: torch.Tensor):
        self.owner, self.layout = owner, (tensor.size(), tensor.stride(), tensor.storage_offset())
        owner.num_views += 1

    def tensor(self) -> torch.Tensor:
        return self.owner.value().as_strided(*self.layout)


class _Running(threading.local):
    """Recomputed tensors of the block that runs in this thread, by storage; None: all tensors are saved."""

    tensors: dict[int, _Recomputed] | None = None


_running = _Running()


@contextmanager
def recomputation() -> Iterator[None]:
    """Context in which autograd does not save tensors that were passed to `recomputed`."""
    assert _running.tensors is None
    _running.tensors = tensors = {}
    try:
        with saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        for owner in tensors.values():
            owner.out = None
        _running.tensors = None


def recomputed(out: torch.Tensor, function: Function, *sources: torch.Tensor) -> torch.Tensor:
    """Mark `out` to be recomputed as `function(*sources)`, and return it. It must not be changed in place.

    Args:
        function: deterministic.
        sources: tensors that are saved for the backward pass anyway, or recomputed themselves.
    """
    if torch.compiler.is_compiling() or _running.tensors is None:
        return out
    if all(_storage(out) != _storage(source) for source in sources):
        _running.tensors[_storage(out)] = _Recomputed(out, function, [_pack(source) for source in sources])
    return out


def recompute_output(layer: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
    """`recomputed` as a forward hook; register it after hooks that change the layer's output."""
    return recomputed(out, layer, *inputs)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _pack(tensor: torch.Tensor) -> torch.Tensor | _View:
    assert _running.tensors is not None
    owner = _running.tensors.get(_storage(tensor))
    if owner is None or tensor.dtype != owner.dtype:
        return tensor.detach()  # an operation's own output would keep itself alive
    return _View(owner, tensor)


def _unpack(packed: torch.Tensor | _View) -> torch.Tensor:
    return packed.tensor() if isinstance(packed, _View) else packed
