from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

import torchvision

from snntorch_asnn.train import TrainConfig, fit, load_run
from snntorch_asnn.train.teacher import NormalisedImages, check_answers, load_teacher

CLASSES = ("cat", "dog", "owl")
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(num_classes=3).state_dict()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_torchvision_checkpoint_is_named_by_its_file(tmp_path, weights, wrapper):
    torch.save(
        weights if wrapper is None else {wrapper: weights, "epoch": 3}, tmp_path / "squeezenet1_1-x.pth"
    )
    teacher = load_teacher(tmp_path / "squeezenet1_1-x.pth", classes=CLASSES)
    net = torchvision.models.squeezenet1_1(num_classes=3).eval()
    net.load_state_dict(weights)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = net((IMAGES - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert torch.allclose(teacher(IMAGES), wanted)
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())


def test_a_timm_checkpoint_may_be_safetensors(tmp_path):
    timm = pytest.importorskip("timm")
    safetensors = pytest.importorskip("safetensors.torch")
    net = timm.create_model("test_resnet", num_classes=3).eval()
    safetensors.save_file(net.state_dict(), tmp_path / "test_resnet.r160_in1k.safetensors")
    teacher = load_teacher(
        tmp_path / "test_resnet.r160_in1k.safetensors", classes=CLASSES, mean=[0.0] * 3, std=[1.0] * 3
    )
    assert torch.allclose(teacher(IMAGES), net(IMAGES))


def test_a_run_teaches_with_its_best_epoch(tmp_path):
    config = TrainConfig(data="digits", train_subset=100, epochs=1, device="cpu", out=tmp_path / "run")
    digits, images = tuple(str(d) for d in range(10)), torch.rand(2, 1, 8, 8)
    with torch.compiler.set_stance("force_eager"):
        fit(config)
        teacher = load_teacher(tmp_path / "run", classes=digits)
        assert torch.equal(teacher(images), load_run(tmp_path / "run")[1](images))
    assert not any(p.requires_grad for p in teacher.parameters())
    with pytest.raises(ValueError, match="teacher must know the same classes"):
        load_teacher(tmp_path / "run", classes=CLASSES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.pth", "teacher must be a run folder or a checkpoint file"),
        ("resnet1_8.pth", "must begin with the name of a network.*did you mean 'resnet18'"),
        ("squeezenet1_1-damaged.pth", "teacher must be a checkpoint that holds only weights"),
        ("squeezenet1_1-tensor.pth", "teacher must hold a state_dict; .* holds Tensor"),
        ("squeezenet1_0-other.pth", "teacher must hold the weights of its network for 3 classes"),
    ],
)
def test_unusable_teachers_are_refused(tmp_path, weights, name, message):
    pytest.importorskip("timm")
    torch.save(weights, tmp_path / "resnet1_8.pth")
    torch.save(weights, tmp_path / "squeezenet1_0-other.pth")
    torch.save(torch.ones(3), tmp_path / "squeezenet1_1-tensor.pth")
    whole = (tmp_path / "squeezenet1_0-other.pth").read_bytes()
    (tmp_path / "squeezenet1_1-damaged.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=message):
        load_teacher(tmp_path / name, classes=CLASSES)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save(nn.Linear(1, 1), tmp_path / "squeezenet1_1-module.pth")
    with pytest.raises(ValueError, match="only weights"):
        load_teacher(tmp_path / "squeezenet1_1-module.pth", classes=CLASSES)


def test_normalised_images_move_with_the_network():
    assert NormalisedImages(nn.Identity(), [0.5], [0.5]).double().mean.dtype == torch.float64


def test_a_teacher_that_does_not_fit_leaves_the_earlier_run_alone(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("of an earlier run")
    file = tmp_path / "squeezenet1_1-digits.pth"
    torch.save(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), file)
    config = TrainConfig(data="digits", train_subset=100, device="cpu", teacher=file, out=run, overwrite=True)
    with pytest.raises(
        ValueError, match=r"teacher must take images of shape \[1, 1, 8, 8\]; got .*digits.pth"
    ):
        fit(config)
    assert (run / "metrics.jsonl").read_text() == "of an earlier run"


def test_answers_are_one_for_each_class():
    check_answers(nn.Flatten(), torch.rand(1, 3, 1, 1), 3, Path("net.pth"))
    with pytest.raises(
        ValueError, match=r"teacher must give answers of shape \(1, 4\); got net.pth, .* \(1, 3\)"
    ):
        check_answers(nn.Flatten(), torch.rand(1, 3, 1, 1), 4, Path("net.pth"))


def test_a_run_without_a_checkpoint_is_no_teacher(tmp_path):
    with pytest.raises(
        ValueError, match=r"teacher cannot be loaded: run folder .* is incomplete: checkpoint.pt is missing"
    ):
        load_teacher(tmp_path, classes=CLASSES)
