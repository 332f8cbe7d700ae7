from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("torchvision")
pytest.importorskip("tonic")

from tonic import datasets
from tonic.functional import to_frame_numpy

from snntorch_asnn.train import fit
from snntorch_asnn.train.batches import eval_loader, train_loader
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.data import image_shape, load_images
from snntorch_asnn.train.data.events import count_events


@pytest.fixture(autouse=True)
def few_files_are_enough(monkeypatch):
    """Let tonic take a data set for complete that has one file."""
    enough = datasets.NMNIST._folder_contains_at_least_n_files_of_type
    monkeypatch.setattr(
        datasets.NMNIST.__base__,
        "_folder_contains_at_least_n_files_of_type",
        lambda self, _, kind: enough(self, 1, kind),
    )


def recording(rng: np.random.Generator, size: int, count: int = 60) -> dict[str, np.ndarray]:
    return {
        "x": rng.integers(0, size, count),
        "y": rng.integers(0, size, count),
        "t": np.sort(rng.integers(0, 300_000, count)),
        "p": rng.integers(0, 2, count),
    }


def write_n_mnist(file: Path, events: dict[str, np.ndarray]) -> None:
    """Write 40 bits an event: x, y, polarity and 23 bits of microseconds."""
    t = events["t"]
    columns = [events["x"], events["y"], events["p"] << 7 | t >> 16, t >> 8 & 255, t & 255]
    file.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())


@pytest.fixture
def n_mnist(tmp_path):
    """Ten recordings of each digit for training and two for testing, as they are published."""
    rng, root = np.random.default_rng(0), tmp_path / "NMNIST"
    for split, count in (("Train", 10), ("Test", 2)):
        for digit in range(10):
            (root / split / str(digit)).mkdir(parents=True)
            for i in range(count):
                write_n_mnist(root / split / str(digit) / f"{i:05}.bin", recording(rng, 34))
        (root / f"{split.lower()}.zip").touch()
    return tmp_path


@pytest.fixture
def dvs_gesture(tmp_path):
    """Two recordings of each gesture in either split, as the archives that tonic fetches hold them."""
    rng, root = np.random.default_rng(0), tmp_path / "DVSGesture"
    for split in ("Train", "Test"):
        for user in ("user01_fluorescent", "user02_led"):
            folder = root / f"ibmGesture{split}" / user
            folder.mkdir(parents=True)
            for gesture in range(11):
                events = recording(rng, 128)
                columns = [events["x"], events["y"], events["p"], events["t"] // 1000]
                np.save(folder / f"{gesture}.npy", np.stack(columns, axis=1).astype(np.int64))
        (root / f"ibmGesture{split}.tar.gz").touch()
    return tmp_path


def settings(data: str, root: Path, **changes) -> TrainConfig:
    values = {"encoding": "none", "num_steps": 3, "augment": "auto"}
    return TrainConfig(data=data, data_dir=root, **values | changes)


def test_n_mnist_becomes_frames(n_mnist):
    splits = load_images(settings("n-mnist", n_mnist))
    assert splits.sizes == {"train": 90, "val": 10, "test": 20}
    assert (splits.in_channels, splits.image_size, splits.classes[3]) == (2, 34, "3 - three")
    assert image_shape(settings("n-mnist", n_mnist)) == (2, 34)
    for part in ("train", "val", "test"):
        frames, _ = getattr(splits, part)[0]
        assert (frames.shape, frames.dtype) == ((3, 2, 34, 34), torch.float32)
    labels = [splits.val[i][1] for i in range(10)]
    assert labels == list(range(10))


def test_a_frame_counts_its_share_of_the_events(n_mnist):
    events = {"x": [1, 1, 2, 30], "y": [5, 5, 6, 7], "t": [10, 70_000, 70_001, 200_000], "p": [0, 0, 1, 1]}
    file = n_mnist / "NMNIST" / "Test" / "0" / "00000.bin"
    write_n_mnist(file, {name: np.array(values) for name, values in events.items()})
    frames, label = load_images(settings("n-mnist", n_mnist, num_steps=2)).test[0]
    wanted = torch.zeros(2, 2, 34, 34)
    wanted[0, 0, 5, 1] = 2
    wanted[1, 1, 6, 2] = wanted[1, 1, 7, 30] = 1
    assert label == 0
    assert torch.equal(frames, wanted)


@pytest.mark.parametrize("count", [0, 2, 3, 100, 101])
@pytest.mark.parametrize("size", [(34, 34, 2), (7, 5, 1)])
def test_frames_are_those_of_tonic(count, size):
    rng = np.random.default_rng(count)
    events = np.zeros(count, dtype=[("x", "u2"), ("y", "u2"), ("t", "u8"), ("p", "?")])
    for field, most in zip("xyp", size, strict=True):
        events[field] = rng.integers(0, most, count)
    wanted = to_frame_numpy(events, size, n_event_bins=3)
    assert torch.equal(count_events(events, 3, size), torch.from_numpy(wanted).float())


def test_an_empty_recording_is_blank(n_mnist):
    (n_mnist / "NMNIST" / "Test" / "0" / "00000.bin").write_bytes(b"")
    frames, _ = load_images(settings("n-mnist", n_mnist)).test[0]
    assert torch.equal(frames, torch.zeros(3, 2, 34, 34))


def test_dvs_gesture_becomes_frames(dvs_gesture):
    splits = load_images(settings("dvs-gesture", dvs_gesture, val_fraction=0.5))
    assert splits.sizes == {"train": 11, "val": 11, "test": 22}
    assert (splits.in_channels, splits.image_size, splits.classes[0]) == (2, 128, "Hand clapping")
    assert image_shape(settings("dvs-gesture", dvs_gesture)) == (2, 128)
    frames, _ = splits.train[0]
    assert frames.shape == (3, 2, 128, 128)
    assert frames.sum() == 60


def test_cifar10_dvs_gives_a_tenth_for_testing(tmp_path, monkeypatch):
    rng, root = np.random.default_rng(0), tmp_path / "CIFAR10DVS"
    for name in datasets.CIFAR10DVS.classes:
        (root / name).mkdir(parents=True)
        for i in range(20):
            (root / name / f"cifar10_{name}_{i}.aedat4").touch()
    (root / "CIFAR10DVS.zip").touch()

    def read(_: str) -> np.ndarray:
        events = recording(rng, 128)
        types = [("timestamp", "u8"), ("x", "u2"), ("y", "u2"), ("on", "?")]
        return np.array(list(zip(*(events[k] for k in "txyp"), strict=True)), dtype=types)

    monkeypatch.setattr("tonic.datasets.cifar10dvs.read_aedat4", read)
    splits = load_images(settings("cifar10-dvs", tmp_path))
    assert (splits.in_channels, splits.image_size) == image_shape(settings("cifar10-dvs", tmp_path))
    assert splits.sizes == {"train": 162, "val": 18, "test": 20}
    assert splits.classes[:3] == ("airplane", "automobile", "bird")
    assert {splits.test[i][1] for i in range(20)} == set(range(10))
    indices = [set(getattr(splits, part).indices) for part in ("train", "val", "test")]
    assert sum(map(len, indices)) == len(set.union(*indices)) == 200


def test_frames_are_augmented_for_training_only(n_mnist):
    splits = load_images(settings("n-mnist", n_mnist, augment="crop-flip"))
    assert torch.equal(splits.val[0][0], splits.val[0][0])
    assert len({splits.train[0][0].numpy().tobytes() for _ in range(10)}) > 1


def test_event_data_that_cannot_be_had_say_so(tmp_path, monkeypatch):
    def no_network(_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.NMNIST, "download", no_network)
    with pytest.raises(ValueError, match=r"data_dir must hold N-MNIST;.*no route to host"):
        load_images(settings("n-mnist", tmp_path))


def test_event_data_take_no_code(n_mnist):
    with pytest.raises(ValueError, match=r"encoding must be none for n-mnist, .*; got 'hybrid'"):
        load_images(settings("n-mnist", n_mnist, encoding="hybrid"))


def test_batches_come_time_first(n_mnist):
    config = settings("n-mnist", n_mnist, batch_size=8)
    splits, cpu = load_images(config), torch.device("cpu")
    for loader in (train_loader(splits.train, config, cpu)[0], eval_loader(splits.test, config, cpu)):
        frames, labels = next(iter(loader))
        assert (frames.shape, labels.shape) == ((3, 8, 2, 34, 34), (8,))
    assert torch.equal(frames[:, 5], splits.test[5][0])


def test_a_network_learns_from_events(n_mnist, tmp_path):
    config = settings(
        "n-mnist", n_mnist, out=tmp_path / "run", epochs=1, batch_size=30, device="cpu", mixup=0.5
    )
    with torch.compiler.set_stance("force_eager"):
        result = fit(config)
    assert len(result.metrics) == 1
    assert 0 <= result.test_accuracy <= 1
