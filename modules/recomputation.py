"""Tensors of a block that are not kept for its backward pass, but computed again in it, from others that are kept.

Frozen weights need no inputs for their gradients, but what an adapter hangs on them does: of a normalisation's output
for instance, whose input is kept anyway, the same values are cheaper to compute again than to keep. The function is the
same, and so are the gradients.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

Function = Callable[..., torch.Tensor]


class _Maker:
    """`function(*sources)` made `out`; a source may be one that is computed again itself.

    In the backward pass each view is asked for once, and what was made stays until the last one was.
    """

    def __init__(self, out: torch.Tensor, function: Function, sources: "list[torch.Tensor | _View]"):
        self.out: torch.Tensor | None = out  # while the block runs, so that its storage is not another tensor's
        self.dtype, self.function, self.sources = out.dtype, function, sources
        kind = "cpu" if out.device.type == "meta" else out.device.type
        self.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        self.num_views = self._num_asked = 0
        self._made: torch.Tensor | None = None

    def make(self) -> torch.Tensor:
        made = self._made
        if made is None:
            kind, dtype, enabled = self.autocast
            with torch.no_grad(), torch.autocast(kind, dtype, enabled):
                made = self.function(*map(_unpack, self.sources))
        self._num_asked += 1
        self._made = None if self._num_asked % self.num_views == 0 else made
        return made


class _View:
    """A view of what a maker makes."""

    def __init__(self, maker: _Maker, tensor: torch.Tensor):
        self.maker, self.layout = maker, (tensor.size(), tensor.stride(), tensor.storage_offset())
        maker.num_views += 1

    def tensor(self) -> torch.Tensor:
        return self.maker.make().as_strided(*self.layout)


class _Running(threading.local):
    """The makers of the block that runs in this thread, by the storage of what they made; None: all is kept."""

    makers: dict[int, _Maker] | None = None


_running = _Running()


@contextmanager
def recomputation() -> Iterator[None]:
    """Within it, autograd does not keep the tensors that are given to `made_by`."""
    assert _running.makers is None
    _running.makers = makers = {}
    try:
        with saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        for maker in makers.values():
            maker.out = None
        _running.makers = None


def made_by(out: torch.Tensor, function: Function, *sources: torch.Tensor) -> torch.Tensor:
    """`out`, of which `function(*sources)` computes the same values again. It must not be changed in place.

    Args:
        function: has no randomness.
        sources: tensors that are kept for the backward pass anyway, or computed again themselves.
    """
    if torch.compiler.is_compiling() or _running.makers is None:
        return out
    if all(_storage(out) != _storage(source) for source in sources):
        _running.makers[_storage(out)] = _Maker(out, function, [_pack(source) for source in sources])
    return out


def made_again(layer: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
    """`made_by` as a forward hook, to be registered behind those that change the layer's output."""
    return made_by(out, layer, *inputs)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _pack(tensor: torch.Tensor) -> torch.Tensor | _View:
    assert _running.makers is not None
    maker = _running.makers.get(_storage(tensor))
    if maker is None or tensor.dtype != maker.dtype:
        return tensor.detach()  # an operation's own output would keep itself alive
    return _View(maker, tensor)


def _unpack(packed: torch.Tensor | _View) -> torch.Tensor:
    return packed.tensor() if isinstance(packed, _View) else packed
