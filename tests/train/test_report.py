from __future__ import annotations

import json
import subprocess
from html.parser import HTMLParser

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("torchvision")
pytest.importorskip("matplotlib")

from snntorch_asnn.energy.text import joules, number
from snntorch_asnn.models import create_model
from snntorch_asnn.train.config import TrainConfig
from snntorch_asnn.train.report import write_energy, write_report
from snntorch_asnn.train.report.page import command
from snntorch_asnn.train.run_folder import RunFolder, git_state

CLASSES = ("zero", "one", "<b>two</b>")
VOID = {"meta", "br", "hr", "img", "link", "input"}
SECTIONS = ["learning", "steps", "confusion", "neurons", "rates", "energy", "settings", "machine"]


class Page(HTMLParser):
    """Reads a page, and checks that every element is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.sections, self.links, self.texts, self.tags = [], [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.sections.append(values["id"])
        self.links += [values[name] for name in ("src", "href", "xlink:href") if name in values]

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.texts.append(data.strip())


def write_json(file, values) -> None:
    file.write_text(json.dumps(values))


def write_run(folder, **settings):
    """Write what a run on three classes writes, without training."""
    config = TrainConfig(data="digits", epochs=3, out=folder, **settings)
    shape = {"in_channels": 1, "image_size": 8}
    chosen = {"neuron": config.neuron, "readout": config.readout}
    model = create_model("lenet", num_classes=3, num_steps=4, **chosen, **shape)
    checkpoint = {"config": config.to_dict(), "classes": list(CLASSES), **shape, "model": model.state_dict()}
    RunFolder(folder).save_checkpoint(checkpoint)
    versions = {"torch": torch.__version__}
    described = {"config": config.to_dict(), "images": {"train": 9, "val": 2, "test": 3}, "device": "cpu"}
    git = {"commit": "c0ffee" * 6, "branch": "main", "dirty": True}
    write_json(folder / "config.json", described | {"threads": 1, "versions": versions, "git": git})
    lines = [
        {"epoch": e, "lr": 0.1 / e, "train_loss": 2 / e, "val_loss": 2.1 / e, "train_accuracy": 0.3 * e}
        | {"val_accuracy": 0.25 * e, "firing_rate": 0.1, "seconds": 2.0, "images_per_second": 700.0}
        for e in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return model


def finish_run(folder, model) -> None:
    result = {"test_accuracy": 0.875, "val_accuracy": 0.75, "best_epoch": 3, "parameters": 12345}
    rates = {"firing_rates": {"spike1": [0.1, 0.2, 0.3, 0.4]}, "firing_rate": 0.25}
    write_json(folder / "result.json", result | rates | {"images_per_second": 700.0, "seconds": 75.0})
    confusion = [[5, 0, 0], [0, 4, 1], [0, 2, 3]]
    evaluation = {"accuracy_by_step": [0.5, 0.6, 0.7, 0.8], "confusion": confusion, "classes": CLASSES}
    write_json(folder / "evaluation.json", evaluation)
    with torch.compiler.set_stance("force_eager"):
        write_energy(folder, model, [(torch.rand(70, 1, 8, 8), torch.zeros(70))])


@pytest.fixture
def run(tmp_path):
    finish_run(tmp_path, write_run(tmp_path, batch_size=64))
    return tmp_path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The report of a finished run."""
    folder = tmp_path_factory.mktemp("runs")
    finish_run(folder, write_run(folder, batch_size=64))
    return write_report(folder)


def read(file) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def test_the_page_shows_everything_and_fetches_nothing(written):
    page = read(written)
    assert written.name == "report.html"
    assert page.sections == SECTIONS
    assert page.tags.count("svg") == 8
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not {"script", "link", "iframe"} & set(page.tags)
    for text in ("87.50%", "75.00%", "12,345", "700", "1.2 min"):
        assert text in page.texts
    assert written.stat().st_size < 500_000


def test_names_are_text_and_not_markup(written):
    page = read(written)
    assert "<b>two</b> → one" in page.texts
    assert "b" not in [tag for tag, before in zip(page.tags[1:], page.tags, strict=False) if before == "td"]


def test_settings_that_differ_give_the_command(written):
    page = read(written)
    command = next(text for text in page.texts if text.startswith("snntorch-asnn train"))
    assert command == f"snntorch-asnn train --epochs 3 --batch-size 64 --out {written.parent}"
    assert "c0ffeec0ffee on main, with changes that are not committed" in page.texts


def test_colours_follow_the_reader(written):
    html = written.read_text()
    assert "prefers-color-scheme: dark" in html
    assert "currentColor" in html
    assert "#010203" not in html


def test_the_same_run_gives_the_same_page(written):
    before = written.read_bytes()
    assert write_report(written.parent).read_bytes() == before


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(tmp_path):
    write_run(tmp_path, neuron="lif", readout="mean")
    page = read(write_report(tmp_path))
    assert page.sections == ["learning", "settings", "machine"]
    assert "3 of 3" in page.texts


def test_many_classes_are_drawn_without_names(run):
    classes = [f"class {i}" for i in range(60)]
    evaluation = {"accuracy_by_step": [0.1], "confusion": torch.eye(60).int().tolist(), "classes": classes}
    write_json(run / "evaluation.json", evaluation)
    page = read(write_report(run))
    assert "class 7" not in page.texts
    assert "Most frequent errors" not in page.texts


def test_accuracy_by_step_has_energy_beside_it_where_it_is_known(run):
    assert "energy so far (µJ an image)" in read(write_report(run)).texts
    (run / "energy.json").unlink()
    page = read(write_report(run))
    assert "stopped after step" in page.texts
    assert "energy so far (µJ an image)" not in page.texts


def test_a_line_that_was_cut_off_is_left_out(run):
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"epoch": 4, "lo')
    assert "learning" in read(write_report(run)).sections


def test_the_command_leaves_out_what_has_no_effect():
    config = TrainConfig(tet_lambda=0.05, warmup_epochs=1, epochs=3, clip_grad=1.0, out="run")
    assert command(config) == "snntorch-asnn train --epochs 3 --clip-grad 1.0 --out run"


def test_energy_takes_some_images_of_the_first_batch(run):
    energy = json.loads((run / "energy.json").read_text())
    assert energy["images"] == 64
    assert len(energy["mj_by_step"]) == 4
    assert energy["mj"] == pytest.approx(sum(energy["mj_by_step"]))


def test_energy_of_event_frames(tmp_path):
    shape = {"in_channels": 2, "image_size": 8}
    model = create_model("lenet", num_classes=3, num_steps=4, encoding="none", **shape)
    with torch.compiler.set_stance("force_eager"):
        write_energy(tmp_path, model, [(torch.ones(4, 5, 2, 8, 8), torch.zeros(5))])
    assert json.loads((tmp_path / "energy.json").read_text())["images"] == 5


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "run folder .* is incomplete: config.json is missing"),
        ("metrics.jsonl", None, "run folder .* is incomplete: metrics.jsonl holds no finished epoch"),
        ("metrics.jsonl", "", "run folder .* is incomplete: metrics.jsonl holds no finished epoch"),
        ("result.json", "{", "run folder is damaged: .*result.json: "),
        ("result.json", "{}", "run folder is damaged: .*result.json lacks test_accuracy"),
        ("energy.json", "[]", "run folder is damaged: .*energy.json must hold a JSON object"),
        ("config.json", "{", "run folder is damaged: .*config.json: "),
        ("config.json", "{}", "run folder is damaged: .*config.json lacks config, images"),
        ("metrics.jsonl", "{\n", "run folder is damaged: .*metrics.jsonl: "),
        ("metrics.jsonl", "{", "run folder .* is incomplete: metrics.jsonl holds no finished epoch"),
        ("checkpoint.pt", "x", "run folder is damaged: .*checkpoint.pt: "),
    ],
)
def test_what_is_missing_or_damaged_is_named(run, file, content, message):
    (run / file).unlink()
    if content is not None:
        (run / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(run)
    assert not (run / "report.html").exists()


def test_the_command_writes_the_page_again(written, capsys):
    pytest.importorskip("cyclopts")
    from snntorch_asnn.cli import main

    written.unlink()
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(written.parent)])
    assert (stopped.value.code, capsys.readouterr().out) == (0, f"{written}\n")
    assert written.exists()
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(written.parent / "nowhere")])
    assert stopped.value.code == 2
    assert "is incomplete: config.json is missing" in capsys.readouterr().err


def test_counts_and_energies_have_prefixes():
    assert [number(x, digits=3) for x in (0, 999, 1234, 5.6e6, 7e9, 2e13)] == [
        "0",
        "999",
        "1.23 k",
        "5.6 M",
        "7 G",
        "20 T",
    ]
    assert [joules(1e12 * x, digits=3) for x in (0, 2.5e-13, 1e-12, 3.21e-7, 0.013, 4)] == [
        *("0 pJ", "0.25 pJ", "1 pJ", "321 nJ", "13 mJ", "4 J")
    ]
    assert (number(467_123_456), joules(1.2345e9)) == ("467.1 M", "1.234 mJ")


def test_git_state_tells_commit_and_changes(tmp_path):
    def git(*arguments: str) -> None:
        own = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=trunk"]
        subprocess.run(["git", "-C", str(tmp_path), *own, *arguments], check=True, capture_output=True)

    assert git_state(tmp_path / "nowhere") is None
    git("init")
    assert git_state(tmp_path) is None
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    state = git_state(tmp_path)
    assert (len(state["commit"]), state["branch"], state["dirty"]) == (40, "trunk", False)
    (tmp_path / "file").write_text("b")
    assert git_state(tmp_path)["dirty"]


def spoil(folder, change) -> None:
    """Change the weights of the best epoch."""
    run = RunFolder(folder)
    checkpoint = run.load_checkpoint()
    change(checkpoint["model"])
    run.save_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(1.5, ("0", "1", "4")), (-0.5, ("1", "0", "4")), (1.0, ("0", "1", "4")), (0.5, None)],
)
def test_leaks_at_the_ends_of_their_range_are_in_the_report(tmp_path, value, wanted):
    write_run(tmp_path)

    def change(weights) -> None:
        names = [name for name in weights if name.endswith("beta")]
        for name in names:
            weights[name].fill_(0.5)
        weights[names[1]].view(-1)[2] = value

    spoil(tmp_path, change)
    texts = Page(write_report(tmp_path).read_text(encoding="utf-8")).texts
    shown = "Leaks at the ends of their range" in texts
    assert shown == (wanted is not None)
    if wanted is not None:
        first = texts.index("conv2.spike.neuron.neuron")
        cells = [text for text in texts[first:] if text][:5]
        assert tuple(cells) == ("conv2.spike.neuron.neuron", "beta", *wanted)


@pytest.mark.parametrize("dead", [("spike1",), ("spike1", "spike3"), ()])
def test_layers_that_never_fire_are_in_the_report(run, dead):
    folder = RunFolder(run)
    result = folder.read_json(folder.result)
    result["firing_rates"] = {
        name: [0.0, 0.0] if name in dead else [0.0, 0.1] for name in ("spike1", "spike2", "spike3")
    }
    folder.write_json(folder.result, result)
    page = write_report(run).read_text(encoding="utf-8")
    wanted = f"{len(dead)} of 3 layers of neurons never fired on the test images: {', '.join(dead)}."
    assert (wanted in page) == bool(dead)
    assert ("Warnings" in Page(page).texts) == bool(dead)


def test_a_run_that_goes_on_names_its_silent_layers_too(tmp_path):
    write_run(tmp_path)
    folder = RunFolder(tmp_path)
    lines = folder.read_lines(folder.metrics)
    folder.rewrite(folder.metrics, [line | {"silent_layers": ["spike4"]} for line in lines])
    assert "no step of the validation images: spike4." in write_report(tmp_path).read_text(encoding="utf-8")
