"""The pixels of the next batch, copied to the device or made there while the one before it is trained on."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Pixels = torch.Tensor | list[torch.Tensor]


def make_ahead(
    items: Iterator[Item], make: Callable[[Item], Pixels], device: torch.device
) -> Iterator[tuple[Item, Pixels]]:
    """Yield each item with the pixels that `make` computes on `device`, in a thread that works one item ahead.

    On a GPU the thread has its own stream, because on the training stream its copies from pageable memory would wait
    for the training step, and the GPU would then idle until the kernels of the next step are launched.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def make_on_stream(item: Item) -> tuple[Pixels, torch.Event | None]:
        with torch.cuda.stream(stream):
            return make(item), stream.record_event() if stream else None

    def wait_for(future: Future[tuple[Pixels, torch.Event | None]]) -> Pixels:
        pixels, event = future.result()
        if event is not None:
            current = torch.cuda.current_stream(device)
            current.wait_event(event)
            for tensor in [pixels] if isinstance(pixels, torch.Tensor) else pixels:
                tensor.record_stream(current)  # so that its memory is not reused before this stream is finished
        return pixels

    with ThreadPoolExecutor(1, "pixels") as pool:
        before: tuple[Item, Future] | None = None
        for item in items:
            future = pool.submit(make_on_stream, item)
            if before:
                yield before[0], wait_for(before[1])
            before = item, future
        if before:
            yield before[0], wait_for(before[1])
