from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

pytest.importorskip("lightning_fabric")

from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.devices import make_fabric
from snntorch_asnn.train.learner import Learner, Position


class Names(nn.Module):
    """Answers with the class that the only pixel of an image names."""

    def __init__(self) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor, *, return_steps: bool) -> Tensor:
        return self.sure * one_hot(images.flatten().long(), 3).float().unsqueeze(0)


@pytest.mark.parametrize(("part", "right"), [(0.6, 4), (0.4, 0)])
def test_the_larger_part_of_a_mixed_image_is_its_class(part, right):
    config = TrainConfig(device="cpu", mixup=1.0)
    learner = Learner(Names(), config, make_fabric(config), steps_per_epoch=2, num_classes=3)
    labels = torch.tensor([0, 1, 2, 0])
    others = (labels + 1) % 3
    learner.mixup = lambda images, labels: (
        images,
        part * one_hot(others, 3) + (1 - part) * one_hot(labels, 3),
    )
    _, correct = learner.step([(others.view(4, 1, 1, 1).float(), labels)], Position(1, 0, 2))
    assert correct == right
