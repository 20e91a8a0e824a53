"""Methods with random draws or features of their own, trained by two processes and by one with the whole batch."""

from pathlib import Path

import pytest
import torch

from modules.build import build_model_and_text
from modules.build_training import build_trainer
from modules.training import Progress
from tests.modules.tiny import NAMES, Batches, make_config
from tests.two_processes import in_two_processes
from utils.context import RunContext
from utils.distributed import Process

CPU = torch.device("cpu")
METHODS = {
    "mote": {"sim_header": "MoTE", "scorer": "modulated", "solver_loss_type": "mixture", "head_layers": 2},
    "vcs": {"scorer": "vcs", "solver_loss_type": "NCE", "head_layers": 1},
    "xclip": {"tm": "message", "sim_header": "MIT", "scorer": "xclip", "head_layers": 1},
}
STEPS, BATCH = 3, 4


class Share(Batches):
    """Each batch's clips from `rank` on, in steps of `world_size`; of `num_batches` batches those from `first` on."""

    def __init__(self, rank: int, world_size: int, num_batches: int = STEPS, first: int = 0):
        generator = torch.Generator().manual_seed(9)
        clips = lambda: torch.randn(BATCH, 4, 3, 32, 32, generator=generator)  # noqa: E731
        labels = lambda: torch.randint(0, len(NAMES), (BATCH,), generator=generator)  # noqa: E731
        super().__init__([(clips(), labels()) for _ in range(num_batches)], slice(rank, None, world_size))
        self.batches.plan, self.shares = self.batches.plan[first:], self.shares[first:]


def train(name: str, folder: Path, rank: int, world_size: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses, and the parameters afterwards."""
    cfg = make_config(folder, data_batch_size=BATCH // world_size, solver_lr=1e-3, **METHODS[name])
    model, text = build_model_and_text(cfg, NAMES, CPU)
    trainer = build_trainer(cfg, model, text, RunContext(Process(rank, world_size, rank, CPU), "fp32"))
    losses = [record.loss for record in trainer.run_epoch(Share(rank, world_size), Progress())]
    return losses, {key: value.detach().clone() for key, value in model.state_dict().items()}


def one_of_two(rank: int, folder: Path) -> dict[str, tuple]:
    return {name: train(name, folder, rank, 2) for name in METHODS}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, in_two_processes(one_of_two, folder, folder)


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_one(found, name):
    folder, by_rank = found
    losses, weights = train(name, folder, 0, 1)
    for of_rank in by_rank:
        assert of_rank[name][0] == pytest.approx(losses, rel=1e-4)
        for key, value in weights.items():
            # A step of Adam from a gradient near 0 has either sign.
            torch.testing.assert_close(of_rank[name][1][key], value, rtol=1e-3, atol=2e-3, msg=f"{name}: {key}")
    for key, value in by_rank[0][name][1].items():
        torch.testing.assert_close(by_rank[1][name][1][key], value, rtol=0, atol=1e-6)
