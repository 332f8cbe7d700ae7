from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("lightning_fabric")

from snntorch_asnn.train.evaluation import evaluate, most_frequent_errors
from snntorch_asnn.train.progress import Tally
from snntorch_asnn.train.run import in_groups


class Steps(nn.Module):
    """A classifier over two steps, of which the second is right more often than the first."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(), nn.Linear(3, 3), nn.BatchNorm1d(3))

    def forward(self, images: torch.Tensor, *, return_steps: bool = False) -> torch.Tensor:
        logits = self.net(images)
        steps = torch.stack([0.1 * logits.roll(1, dims=1), logits])
        return steps if return_steps else steps.mean(0)


@pytest.fixture
def fabric():
    return pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1)


def score(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, fabric):
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    return evaluate(model, loader, fabric, num_steps=2, classes=("a", "b", "c"))


def test_evaluation_weighs_every_image_alike(fabric):
    images, labels = torch.rand(10, 3), torch.arange(10) % 3
    model = Steps()
    found = score(model, images, labels, fabric)
    logits = model.eval()(images)
    assert found.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item())
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert found.images == 10


def test_evaluation_counts_by_step_and_by_class(fabric):
    images, labels = torch.rand(30, 3), torch.arange(30) % 3
    model = Steps().eval()
    steps = model(images, return_steps=True)
    wanted = [(so_far.argmax(1) == labels).float().mean().item() for so_far in (steps[0], steps.mean(0))]
    found = score(model, images, labels, fabric)
    assert found.accuracy_by_step == pytest.approx(wanted)
    assert [sum(row) for row in found.confusion] == [10, 10, 10]
    assert sum(found.confusion[i][i] for i in range(3)) == round(30 * found.accuracy)


def test_evaluation_leaves_the_model_alone(fabric):
    model = Steps()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score(model, torch.rand(8, 3), torch.zeros(8).long(), fabric)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_integer_images_become_unit_range(fabric):
    model = Steps()
    found = score(model, torch.full((4, 3), 255, dtype=torch.uint8), torch.zeros(4).long(), fabric)
    assert found.loss == pytest.approx(score(model, torch.ones(4, 3), torch.zeros(4).long(), fabric).loss)


def test_a_tally_goes_on_from_its_saved_state(fabric):
    whole, first = Tally(fabric), Tally(fabric)
    steps = [(0.5, 3, 4), (0.25, 4, 4), (1.0, 1, 4)]
    for number, (loss, correct, images) in enumerate(steps):
        whole.add(loss, torch.tensor(correct), images)
        first = Tally(fabric, first.state_dict()) if number == 1 else first
        first.add(loss, torch.tensor(correct), images)
    assert whole.score().loss == first.score().loss == pytest.approx(1.75 / 3)
    assert whole.score().accuracy == first.score().accuracy == 8 / 12
    assert first.score().seconds > 0


def test_groups_are_whole_but_for_the_last():
    assert list(in_groups(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_groups([], 2)) == []


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_may_be_integers_of_any_kind(fabric, dtype):
    images, labels = torch.rand(30, 3), torch.arange(30) % 3
    model = Steps().eval()
    found, wanted = (score(model, images, y, fabric) for y in (labels.to(dtype), labels))
    assert (found.loss, found.confusion) == (wanted.loss, wanted.confusion)


def test_errors_come_most_frequent_first_and_no_more_than_asked_for():
    counts = [[9, 1, 0], [3, 9, 0], [2, 2, 9]]
    assert most_frequent_errors(counts, "abc", 2) == [("b", "a", 3), ("c", "a", 2)]
    assert most_frequent_errors([[9, 0], [0, 9]], "ab", 2) == []
