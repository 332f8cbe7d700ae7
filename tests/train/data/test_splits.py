"""Every class is trained and validated, however rare it is."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sklearn")

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data.splits import carve, stratified, subset


def config(**changes) -> TrainConfig:
    return TrainConfig(data="digits", **changes)


@pytest.mark.parametrize("counts", [(40, 2), (2, 40), (50, 2, 2), (200, 3, 2, 5), (30, 30)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_each_class_is_on_both_sides(counts, dtype):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(dtype)
    labels = labels[torch.randperm(len(labels))]
    train, val = carve(labels, config())
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(len(labels)))
    assert len(val) == round(0.1 * len(labels))
    assert train.tolist() == sorted(train.tolist())
    for part in (train, val):
        assert labels[part].unique().numel() == len(counts)


def test_a_subset_keeps_every_class_and_its_size():
    labels = torch.tensor([0] * 60 + [1] * 2 + [2] * 2)
    chosen = subset(labels, config(train_subset=20))
    assert len(chosen) == 20
    assert labels[chosen].unique().tolist() == [0, 1, 2]


def test_classes_that_are_there_already_stay_where_they_were():
    from sklearn.model_selection import train_test_split

    labels = torch.arange(10).repeat(20)
    a, b = stratified(torch.arange(200), labels, 150, "data")
    wanted = train_test_split(
        torch.arange(200).numpy(), train_size=150, test_size=50, stratify=labels.numpy(), random_state=0
    )
    assert (a.tolist(), b.tolist()) == tuple(sorted(part.tolist()) for part in wanted)


@pytest.mark.parametrize("counts", [(40, 1), (3, 3, 3)])
def test_too_few_images_to_split_are_refused(counts):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    with pytest.raises(ValueError, match="train_subset and val_fraction must leave images of every class"):
        carve(labels, config())
