"""Pictures of every depth are loaded, and what cannot be is named before anything begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("cyclopts")
pytest.importorskip("torchvision")
pytest.importorskip("lightning_fabric")
pytest.importorskip("matplotlib")

from PIL import Image

from snntorch_asnn.train import TrainConfig, fit
from snntorch_asnn.train.batches import eval_loader
from snntorch_asnn.train.data import check_images, load_images, spread_images
from snntorch_asnn.train.data import folders as module
from snntorch_asnn.train.data.folders import check_pictures, find_classes, read_picture, to_tensor

CPU = torch.device("cpu")


def make_folders(root: Path, write, suffix: str = "png", count: int = 4) -> Path:
    """A folder of two classes in two splits; ``write(file, level)`` saves a picture of a level in [0, 1]."""
    for split in ("train", "test"):
        for name, level in (("dark", 0.1), ("light", 0.75)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                write(folder / f"{number}.{suffix}", level)
    return root


def saver(dtype: type, scale: float):
    def write(file: Path, level: float) -> None:
        values = np.full((12, 12), level * scale)
        Image.fromarray((values if dtype is np.float32 else values.round()).astype(dtype)).save(file)

    return write


def settings(root: Path, **changes) -> TrainConfig:
    values = {"image_size": 8, "num_steps": 2, "epochs": 1, "batch_size": 4, "val_fraction": 0.25}
    machine = {"device": "cpu", "threads": 1, "tensorboard": False}
    return TrainConfig(data="image-folder", data_dir=root, **values | machine | changes)


@pytest.mark.parametrize(
    ("dtype", "scale", "suffix"),
    [
        (np.uint8, 255, "png"),
        (np.uint16, 65535, "png"),
        (np.uint16, 65535, "tif"),
        (np.uint16, 65535, "pgm"),
        (np.float32, 1, "tif"),
    ],
)
@pytest.mark.parametrize("augment", ["none", "crop-flip", "random-resized-crop"])
def test_a_grey_level_is_the_same_at_every_depth(tmp_path, dtype, scale, suffix, augment):
    root = make_folders(tmp_path, saver(dtype, scale), suffix)
    splits = load_images(settings(root, augment=augment))
    for split in (splits.val, splits.test, splits.train):
        for image, label in (split[i] for i in range(len(split))):
            level = (0.1, 0.75)[label]
            unit = image.float() / 255 if image.dtype == torch.uint8 else image
            assert unit.shape == (3, 8, 8)
            seen = unit.max() if augment == "crop-flip" and split is splits.train else unit
            torch.testing.assert_close(seen, torch.full_like(seen, level), atol=1 / 509, rtol=0)


def test_sixteen_bits_keep_their_levels(tmp_path):
    Image.fromarray(np.array([[1000, 1001]], np.uint16)).save(tmp_path / "x.png")
    pixels = to_tensor(read_picture(tmp_path / "x.png"))
    assert pixels.tolist() == [[pytest.approx([1000 / 65535, 1001 / 65535])]] * 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_other_modes_become_three_colours_as_torchvision_makes_them(tmp_path, mode):
    file = tmp_path / "x.tif"
    picture = Image.effect_noise((9, 7), 60).convert("RGB")
    try:
        picture = picture.convert(mode) if mode != "LAB" else Image.merge("LAB", picture.split())
        picture.save(file)
    except (OSError, KeyError, ValueError):
        picture = picture.convert("RGBA")
        file = file.with_suffix(".png")
        picture.save(file)
    from torchvision.datasets.folder import pil_loader
    from torchvision.transforms.v2.functional import pil_to_tensor

    assert torch.equal(to_tensor(read_picture(file)), pil_to_tensor(pil_loader(str(file))))


def test_depths_may_be_mixed_in_one_batch(tmp_path):
    root = make_folders(tmp_path, saver(np.uint8, 255))
    for folder in root.glob("*/light"):
        for file in folder.iterdir():
            saver(np.uint16, 65535)(file, 0.75)
    test = load_images(settings(root)).test
    images, labels = next(iter(eval_loader(test, settings(root, batch_size=8), CPU)))
    assert (images.dtype, images.shape) == (torch.float32, (8, 3, 8, 8))
    wanted = torch.tensor([0.1, 0.75])[labels]
    torch.testing.assert_close(images.mean((1, 2, 3)), wanted, atol=1 / 255, rtol=0)
    assert spread_images(test, 8).max() == pytest.approx(0.75, abs=1 / 255)


@pytest.mark.parametrize(
    ("pixels", "suffix", "message"),
    [
        (np.full((4, 4), 70000, np.int32), "tif", "has 32-bit integers, whose range is not known"),
        (np.full((4, 4), 200.0, np.float32), "tif", "floating-point pixels between 200 and 200"),
        (np.full((4, 4), np.nan, np.float32), "tif", "floating-point pixels between nan and nan"),
        (np.full((4, 4), -0.5, np.float32), "tif", "floating-point pixels between -0.5 and -0.5"),
    ],
)
def test_pixels_of_an_unknown_range_are_refused(tmp_path, pixels, suffix, message):
    file = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels).save(file)
    for look in (read_picture, lambda file: check_pictures([file])):
        with pytest.raises(ValueError, match=rf"x\.{suffix}: the picture .*{message}"):
            look(file)


def damage(file: Path, kind: str) -> None:
    content = file.read_bytes()
    if kind == "truncated":
        file.write_bytes(content[:60])
    elif kind == "cut at the end":
        file.write_bytes(content[: len(content) * 2 // 3])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "text":
        file.write_text("<html>404</html>")
    else:
        file.write_bytes(content[:40] + bytes(len(content) - 40))


@pytest.mark.parametrize("kind", ["truncated", "cut at the end", "empty", "text", "zeros"])
@pytest.mark.parametrize(("suffix", "split"), [("png", "test"), ("jpg", "train"), ("tif", "test")])
def test_a_damaged_picture_is_named_before_anything_begins(tmp_path, kind, suffix, split):
    def write(file: Path, level: float) -> None:
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file)

    root = make_folders(tmp_path / "data", write, suffix)
    file = root / split / "light" / f"2.{suffix}"
    damage(file, kind)
    with pytest.raises(ValueError, match=rf"{split}/light/2\.{suffix}: the picture cannot be read: "):
        fit(settings(root, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    if kind in ("empty", "text"):
        assert load_images(settings(root)).sizes["test"] == 8  # files are listed, not opened
        with pytest.raises(ValueError, match=rf"2\.{suffix}: the picture cannot be read: it is no picture"):
            read_picture(file)


def test_all_damaged_pictures_are_counted(tmp_path):
    root = make_folders(tmp_path, saver(np.uint8, 255))
    for file in sorted((root / "test" / "dark").iterdir()):
        damage(file, "empty")
    with pytest.raises(ValueError, match=r"dark/0.png: .*, and 3 more cannot be read \(.*1.png, .*; replace"):
        check_images(settings(root))


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    root = make_folders(tmp_path, saver(np.uint8, 255))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ValueError, match=r"0.png: the picture is too large to be decoded safely: .*144"):
        check_images(settings(root))
    with pytest.raises(ValueError, match=r"0.png: the picture is too large"):
        load_images(settings(root)).test[0]


@pytest.mark.parametrize("verify", [True, False])
def test_verification_may_be_left_out(tmp_path, monkeypatch, verify):
    root, seen = make_folders(tmp_path / "data", saver(np.uint8, 255)), []
    monkeypatch.setattr(module, "_fault", lambda file: seen.append(file))
    monkeypatch.setattr("snntorch_asnn.train.run.Run.train", lambda run: None)
    fit(settings(root, out=tmp_path / "run", verify=verify))
    assert len(seen) == (16 if verify else 0)


@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".git", "__MACOSX"])
def test_hidden_folders_are_neither_classes_nor_hold_images(tmp_path, name):
    root = make_folders(tmp_path, saver(np.uint8, 255))
    (root / "train" / name).mkdir()
    saver(np.uint8, 255)(root / "train" / name / "0.png", 0.5)
    (root / "test" / "dark" / name).mkdir()
    saver(np.uint8, 255)(root / "test" / "dark" / name / "0-checkpoint.png", 0.5)
    (root / "test" / "dark" / "._0.png").write_bytes(b"of a Mac")
    splits = load_images(settings(root))
    assert splits.classes == ("dark", "light")
    assert splits.sizes == {"train": 6, "val": 2, "test": 8}
    assert find_classes(root / "train") == ["dark", "light"]
    check_images(settings(root))


def test_folders_below_a_hidden_folder_are_found(tmp_path):
    root = make_folders(tmp_path / ".cache" / "data", saver(np.uint8, 255))
    assert load_images(settings(root)).sizes["test"] == 8


@pytest.mark.parametrize("kind", ["empty", "cut at the end", "zeros"])
def test_the_command_line_says_it_in_one_line(tmp_path, capsys, kind):
    from snntorch_asnn.cli import main

    root = make_folders(tmp_path / "data", saver(np.uint8, 255))
    damage(root / "test" / "dark" / "1.png", kind)
    options = ["--data", "image-folder", "--data-dir", str(root), "--image-size", "8", "--device", "cpu"]
    with pytest.raises(SystemExit) as stopped:
        main(["train", *options, "--out", str(tmp_path / "run")])
    error = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert len(error.splitlines()) == 1
    assert "dark/1.png: the picture cannot be read" in error
