"""`data.sets`: one space of classes, exact shares of an epoch, the same for any number of processes."""

import itertools
from collections import Counter

import pytest
import torch

from datasets.entries import Entries, ListEntry
from datasets.samplers import Draws, TrainBatches, order_of_sets, repeated_order
from datasets.sets import class_ids, class_names, join_sets, shares_of_sets, with_sets
from modules.losses.cross_entropy import own_logits
from utils.errors import UserError
from utils.schema import Config


def make_config(folder, label_space="joined", weights=(None, None)) -> Config:
    labels = {"a": ("riding a bike", "swimming"), "b": ("juggling", "Swimming ", "surfing")}
    for name, names in labels.items():
        (folder / f"{name}.csv").write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in enumerate(names)))
    sets = [
        {"name": name, "label_list": str(folder / f"{name}.csv"), "weight": weight}
        for name, weight in zip(labels, weights)
    ]
    return with_sets(Config.model_validate({"data": {"sets": sets, "label_space": label_space}}))


def test_classes_of_one_name_are_one_or_apart(tmp_path):
    data = make_config(tmp_path).data
    assert class_names(data) == ["riding a bike", "swimming", "juggling", "surfing"]
    assert class_ids(data) == [[0, 1], [2, 1, 3]] and data.num_classes == 4 and data.class_spans == []
    data = make_config(tmp_path, "apart").data
    assert class_names(data) == ["riding a bike", "swimming", "juggling", "Swimming", "surfing"]
    assert class_ids(data) == [[0, 1], [2, 3, 4]] and data.num_classes == 5 and data.class_spans == [(0, 2), (2, 5)]
    lists = [Entries([ListEntry("x", 9, 1, 1)]), Entries([ListEntry("x", 9, 0, 1), ListEntry("y", 9, 2, 2)])]
    assert [(e.label, e.of_set) for e in join_sets(lists, class_ids(data))] == [(1, 0), (2, 1), (4, 1)]


@pytest.mark.parametrize(
    ("weights", "clips"), [((None, None), (7, 3)), ((1.0, 1.0), (5, 5)), ((1.0, 2.0), (3, 7)), ((0.3, None), (1, 9))]
)
def test_an_epoch_is_divided_by_the_weights(tmp_path, weights, clips):
    entries = Entries(ListEntry("x", 9, 0, 1, of_set=number) for number in [0] * 7 + [1] * 3)
    shares = shares_of_sets(make_config(tmp_path, weights=weights).data, entries)
    assert shares == [(7, clips[0]), (3, clips[1])]


def test_a_set_without_a_clip_is_refused(tmp_path):
    entries = Entries(ListEntry("x", 9, 0, 1, of_set=number) for number in (0, 1))
    with pytest.raises(UserError, match="data.sets: the weight of b is too small"):
        shares_of_sets(make_config(tmp_path, weights=(1.0, 0.001)).data, entries)


@pytest.mark.parametrize("sets", [((7, 7), (3, 3)), ((7, 3), (3, 7)), ((7, 2), (3, 8))])
def test_no_video_is_repeated_before_all_others_of_its_set(sets):
    counts: Counter[int] = Counter()
    for epoch in range(9):
        order = repeated_order(order_of_sets(sets, seed=3, epoch=epoch), repeats=1).tolist()
        assert len({tuple(pair) for pair in order}) == 10  # a video that comes twice is drawn differently
        assert sum(sample < 7 for sample, _ in order) == sets[0][1]
        counts.update(sample for sample, _ in order)
        for of_set in (range(7), range(7, 10)):
            times = [counts[sample] for sample in of_set]
            assert max(times) - min(times) <= 1
    assert order_of_sets(sets, 3, 0).tolist() != order_of_sets(sets, 3, 1).tolist()


def test_clips_of_all_sets_are_mixed_within_an_epoch():
    of_second_set = order_of_sets(((70, 70), (30, 30)), seed=3, epoch=0) >= 70
    assert of_second_set.sum() == 30 and 5 < of_second_set[:50].sum() < 25


def test_processes_and_resuming_do_not_change_the_samples():
    def keys(world_size, start=0):
        parts = [
            TrainBatches(10, 6 // world_size, world_size, rank, 3, Draws(sets=((7, 2), (3, 8))))
            for rank in range(world_size)
        ]
        for part in parts:
            part.start(4, start)
        return [key for step in zip(*parts) for key in itertools.chain(*step) if key.real]

    assert len(keys(1)) == 10
    assert keys(2) == keys(3) == keys(1) and keys(2, start=4) == keys(1)[4:]


def test_classes_of_other_sets_are_left_out():
    logits = own_logits(torch.ones(3, 5), torch.tensor([1, 2, 4]), [(0, 2), (2, 5)])
    assert logits.isinf().tolist() == [[False] * 2 + [True] * 3, [True] * 2 + [False] * 3, [True] * 2 + [False] * 3]
