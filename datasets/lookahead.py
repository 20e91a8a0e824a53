"""Copies or preprocesses the pixels of the next batch on the device while the model trains on the current one."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Pixels = torch.Tensor | list[torch.Tensor]


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all loaders of a GPU, because PyTorch caches freed memory per stream."""
    return torch.cuda.Stream(device)


def make_ahead(
    items: Iterator[Item], make: Callable[[Item], Pixels], device: torch.device
) -> Iterator[tuple[Item, Pixels]]:
    """Yield each item with the pixels that `make` computes on `device`, in a thread that works one item ahead.

    An error of an item or of its pixels is raised after all earlier items are yielded.

    On a GPU the thread has its own stream, because on the training stream its copies from pageable memory would wait
    for the training step, and the GPU would then idle until the kernels of the next step are launched.
    """
    stream = _stream(device) if device.type == "cuda" else None

    def start_thread() -> None:
        if stream is not None:
            torch.cuda.set_device(stream.device)  # a new thread uses GPU 0, where it would allocate memory

    def make_on_stream(item: Item) -> tuple[Item, Pixels, torch.Event | None]:
        with torch.cuda.stream(stream):
            return item, make(item), stream.record_event() if stream else None

    def result(future: Future[tuple[Item, Pixels, torch.Event | None]]) -> tuple[Item, Pixels]:
        item, pixels, event = future.result()
        if event is not None:
            current = torch.cuda.current_stream(device)
            current.wait_event(event)
            for tensor in [pixels] if isinstance(pixels, torch.Tensor) else pixels:
                tensor.record_stream(current)  # so that its memory is not reused before this stream is finished
        return item, pixels

    source = iter(items)
    fault = None
    with ThreadPoolExecutor(1, "pixels", start_thread) as pool:
        started: list[Future] = []
        while True:
            try:
                item = next(source, None)
            except Exception as error:  # raised below, after the item that is in the thread
                item, fault = None, error
            if item is None:
                break
            started.append(pool.submit(make_on_stream, item))
            if len(started) > 1:
                yield result(started.pop(0))
        if started:
            yield result(started.pop())
    if fault is not None:
        raise fault
