"""`data.decoder: decord`."""

from typing import Any

import torch

from datasets.optional_reader import OptionalReader, import_optional


class DecordVideo(OptionalReader):
    package = "decord"

    @classmethod
    def check_installed(cls) -> None:
        cls.errors()

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        return import_optional("decord").DECORDError, RuntimeError

    def open(self, path: str) -> Any:
        return import_optional("decord").VideoReader(path, num_threads=1)

    def frames(self, wanted: list[int]) -> torch.Tensor:
        return torch.from_numpy(self._reader.get_batch(wanted).asnumpy())
