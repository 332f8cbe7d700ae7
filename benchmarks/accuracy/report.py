"""Make the tables of docs/accuracy.md from the results.

Usage: ``python benchmarks/accuracy/report.py [TABLE]``.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import paired
from changes import CHANGES
from tables import CLAIMS

RESULTS = Path(__file__).parents[1] / "results"
NEURONS = {"lif": "LIF", "plif": "PLIF", "tebn": "TEBN", "dalif": "DA-LIF", "asnn": "ASNN"}
CODES = {
    ("direct", ""): "direct",
    ("temporal", ""): "temporal",
    ("hybrid", ""): "hybrid",
    ("hybrid_binary", ""): "hybrid binary",
    ("hybrid", "carry"): "hybrid, carried",
    ("hybrid_binary", "carry"): "hybrid binary, carried",
    ("hybrid", "carry+step_norm"): "hybrid, carried, step norms",
}


class Kind(NamedTuple):
    """The settings that runs of one table share if they differ only in their seed."""

    code: str
    neuron: str
    steps: int
    change: str = ""


Runs = dict[Kind, dict[int, dict[str, Any]]]
BASELINE = Kind("direct", "lif", 4)


def runs(*tables: str) -> Runs:
    """Finished runs by kind and seed."""
    found: Runs = defaultdict(dict)
    for table in tables:
        file = RESULTS / f"accuracy_{table}.jsonl"
        for line in file.read_text().splitlines() if file.exists() else []:
            run = json.loads(line)
            cell = run["cell"]
            kind = Kind(cell["code"], cell["neuron"], cell["num_steps"], cell["change"])
            found[kind][cell["seed"]] = run
    return found


def accuracies(of: dict[int, dict[str, Any]]) -> dict[int, float]:
    return {seed: run["accuracy"] for seed, run in of.items()}


def accuracy(found: Runs, kind: Kind) -> str:
    return str(paired.mean(accuracies(found[kind]))) if kind in found else ""


def against(found: Runs, kind: Kind, baseline: Kind) -> paired.Difference | None:
    if kind not in found or baseline not in found:
        return None
    return paired.difference(accuracies(found[kind]), accuracies(found[baseline]))


def grid(*tables: str) -> str:
    """Test accuracy of every neuron and code."""
    found = runs(*tables)
    tried = [code for code in CODES if code in {(kind.code, kind.change) for kind in found}]
    heads = ["T", "neuron", *(CODES[code] for code in tried)]
    rows = [
        [str(steps), label, *(accuracy(found, Kind(code, neuron, steps, change)) for code, change in tried)]
        for steps in _steps(found)
        for neuron, label in NEURONS.items()
    ]
    return markdown_table(heads, rows) + "\n\n" + setting(tables[0])


def neurons() -> str:
    """The gain of ASNN over each of the other neurons, with the same code."""
    found = runs("lenet", "carry")
    others = [neuron for neuron in NEURONS if neuron != "asnn"]
    heads = ["T", "code", *(f"ASNN − {NEURONS[other]}" for other in others)]
    rows, seen = [], []
    for steps in _steps(found):
        for (code, change), label in CODES.items():
            asnn = Kind(code, "asnn", steps, change)
            differences = [against(found, asnn, asnn._replace(neuron=other)) for other in others]
            if any(differences):
                rows.append([str(steps), label, *map(_text, differences)])
                seen.append((f"{label}, T = {steps}", differences[0]))
    return f"{markdown_table(heads, rows)}\n\n**ASNN compared with LIF.** {verdict(seen)}"


def codes() -> str:
    """The gain of each code over direct coding: with the same neuron, and with ASNN over LIF."""
    found = runs("lenet", "carry")
    heads = ["T", "code", "LIF − direct LIF", "ASNN − direct ASNN", "ASNN − direct LIF"]
    rows, seen = [], []
    for steps in _steps(found):
        for (code, change), label in CODES.items():
            if code == "direct":
                continue
            lif, asnn = (Kind(code, neuron, steps, change) for neuron in ("lif", "asnn"))
            differences = [
                against(found, lif, BASELINE._replace(steps=steps)),
                against(found, asnn, Kind("direct", "asnn", steps)),
                against(found, asnn, BASELINE._replace(steps=steps)),
            ]
            if any(differences):
                rows.append([str(steps), label, *map(_text, differences)])
                seen.append((f"{label}, T = {steps}", differences[2]))
    compared = f"**Each code with ASNN, compared with direct coding with LIF.** {verdict(seen)}"
    return f"{markdown_table(heads, rows)}\n\n{compared}"


def short() -> str:
    """The results in a few lines, at T = 4 unless a line says otherwise."""
    found = runs("lenet", "carry")
    direct, hybrid = Kind("direct", "asnn", 4), Kind("hybrid", "asnn", 4)
    carried = hybrid._replace(change="carry")
    if not {BASELINE, direct, hybrid, carried} <= found.keys():
        return "No run is finished yet."

    def over(kind: Kind, baseline: Kind) -> str:
        return _text(against(found, kind, baseline))

    def energy(kind: Kind) -> str:
        return f"{_mean(found[kind].values(), 'microjoules'):.2f} µJ"

    by_code = [
        f"{label} {over(Kind(code, 'asnn', 4, change), Kind(code, 'lif', 4, change))}"
        for (code, change), label in CODES.items()
    ]
    tebn, dalif = (over(hybrid, hybrid._replace(neuron=other)) for other in ("tebn", "dalif"))
    temporal = Kind("temporal", "asnn", 4)
    validated = _text(against(runs("ablation"), carried, BASELINE))
    lines = [
        "**Adaptive neurons help, most where spikes carry the image.** ASNN instead of LIF changes accuracy, "
        f"for each code, by: {'; '.join(by_code)}.",
        "**Learning leak or gain at all matters more than learning both for every step.** With the hybrid "
        f"code, ASNN instead of TEBN changes accuracy by {tebn}, and ASNN instead of DA-LIF by {dalif}. With "
        "direct coding, ASNN instead of TEBN changes it by "
        f"{over(direct, direct._replace(neuron='tebn'))}.",
        "**The hybrid code needs the adaptive neuron.** Compared with direct coding with LIF, it changes "
        f"accuracy by {over(hybrid._replace(neuron='lif'), BASELINE)} with LIF and by "
        f"{over(hybrid, BASELINE)} with ASNN. An image costs {energy(hybrid)} instead of {energy(BASELINE)}.",
        "**The carried analog current closes the gap.** Compared with direct coding with LIF, the carried "
        f"current with ASNN changes accuracy by {over(carried, BASELINE)} on the test images and by "
        f"{validated} on the validation split. An image costs {energy(carried)}. Compared with direct coding "
        f"with ASNN, it changes accuracy by {over(carried, direct)}. With LIF in both, it changes accuracy "
        f"by {over(carried._replace(neuron='lif'), BASELINE)}.",
        "**Spikes alone cost accuracy.** The temporal code never multiplies. Compared with direct coding "
        f"with LIF, the temporal code with ASNN changes accuracy by {over(temporal, BASELINE)}. An image "
        f"costs {energy(temporal)}.",
    ]
    longer, longer_baseline = carried._replace(steps=7), BASELINE._replace(steps=7)
    elsewhere = [
        f"{_text(against(runs(table), carried, BASELINE))} in a small {name}"
        for table, name in (("resnet", "Spiking ResNet"), ("spikformer", "Spikformer"))
    ]
    lines.append(
        "**More steps, other networks.** Compared with direct coding with LIF, the carried current with ASNN "
        f"changes accuracy by {over(longer, longer_baseline)} with T = 7, by {', and by '.join(elsewhere)}."
    )
    return "\n".join(f"- {line}" for line in lines)


def cost() -> str:
    """Parameters, operations, energy and training time at T = 4."""
    found = runs("lenet", "carry")
    heads = [
        "code",
        "neuron",
        "parameters",
        "firing rate",
        "first layer, MACs",
        "MACs",
        "ACs",
        "µJ",
        "s/epoch",
    ]
    rows = []
    for (code, change), label in CODES.items():
        for neuron, name in NEURONS.items():
            of = found.get(Kind(code, neuron, 4, change))
            if of:
                rows.append([label, name, *_costs(list(of.values()))])
    return markdown_table(heads, rows)


def _costs(of: list[dict[str, Any]]) -> list[str]:
    counts = [f"{round(_mean(of, name)):,}" for name in ("first_layer_macs", "macs", "acs")]
    return [
        f"{of[0]['parameters']:,}",
        f"{_mean(of, 'firing_rate'):.3f}",
        *counts,
        f"{_mean(of, 'microjoules'):.2f}",
        f"{_mean(of, 'seconds_per_epoch'):.1f}",
    ]


def _mean(of: Iterable[dict[str, Any]], name: str) -> float:
    return statistics.fmean(run[name] for run in of)


def ablation() -> str:
    """Every change to hybrid coding with ASNN, on the validation split."""
    found = runs("ablation")
    hybrid = Kind("hybrid", "asnn", 4)
    heads = ["code", "neuron", "change", "seeds", "accuracy", "− hybrid ASNN", "− direct LIF"]
    rows, seen = [], []
    for kind in sorted(found, key=lambda kind: -paired.mean(accuracies(found[kind])).mean):
        about = " + ".join(CHANGES[name].about for name in kind.change.split("+") if name) or "none"
        over_lif = against(found, kind, BASELINE)
        rows.append(
            [
                *(kind.code, NEURONS[kind.neuron], about, str(len(found[kind]))),
                accuracy(found, kind),
                "" if kind == hybrid else _text(against(found, kind, hybrid)),
                "" if kind == BASELINE else _text(over_lif),
            ]
        )
        if kind.code == "hybrid":
            seen.append((about if kind.change else "hybrid ASNN unchanged", over_lif))
    carried = hybrid._replace(change="carry")
    spikes = _text(against(found, carried, hybrid._replace(change="carry_only")))
    return "\n\n".join(
        [
            markdown_table(heads, rows),
            f"**Changes compared with direct coding with LIF.** {verdict(seen)}",
            f"**Effect of spike planes beside the carried current:** {spikes or 'not known yet'}.",
            setting("ablation"),
        ]
    )


def first_round() -> str:
    """The form that was best at first: its first measurement, and a second one after it had been chosen."""
    picked = Kind("hybrid", "asnn", 4, "carry+step_norm")
    now, then = runs("ablation"), runs("ablation_first")
    rows = []
    for label, of in (("first", then), ("second", now)):
        if picked in of and BASELINE in now:
            over = paired.difference(accuracies(of[picked]), accuracies(now[BASELINE]))
            rows.append([label, accuracy(of, picked), _text(over)])
    return markdown_table(["round", "carried, step norms", "− direct LIF"], rows)


def few(table: str) -> str:
    """The codes that the claims are about, on one more network or on all data."""
    claims = [Kind(code, neuron, 4, change) for neuron, code, change in CLAIMS]
    found = {kind: of for kind, of in runs(table).items() if kind in claims}
    heads = ["code", "neuron", "seeds", "accuracy", "− direct LIF", "first layer, MACs", "µJ", "parameters"]
    rows = []
    for kind in sorted(found, key=claims.index):
        parameters, _, first_layer, _, _, energy, _ = _costs(list(found[kind].values()))
        over = "" if kind == BASELINE else _text(against(found, kind, BASELINE))
        head = [CODES[kind.code, kind.change], NEURONS[kind.neuron], str(len(found[kind]))]
        rows.append([*head, accuracy(found, kind), over, first_layer, energy, parameters])
    return f"{markdown_table(heads, rows)}\n\n{setting(table)}"


def verdict(differences: Iterable[tuple[str, paired.Difference | None]]) -> str:
    """Say which differences have an interval on one side of 0."""
    known = [(name, difference) for name, difference in differences if difference is not None]
    parts = []
    for sign, word in ((1, "above"), (-1, "below")):
        names = [f"{name} ({difference.mean:+.2f})" for name, difference in known if difference.sign == sign]
        parts.append(f"The whole interval is {word} 0 in {len(names)} of {len(known)} comparisons")
        parts[-1] += f": {'; '.join(names)}" if names else ""
    return ". ".join(parts) + ". The other comparisons are undecided."


def setting(table: str) -> str:
    """Describe how the runs of a table were made, from its first run."""
    file = RESULTS / f"accuracy_{table}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    if not lines:
        return ""
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    cell, versions = first["cell"], first["versions"]
    judged = "the 10,000 test images" if cell["split"] == "test" else "10,000 held-out training images"
    arguments = ", ".join(f"{name}={value}" for name, value in cell["model_args"].items())
    return (
        f"`{cell['model']}({arguments})` on {_DATA[cell['data']]}: {cell['train_images']:,} training images, "
        f"{cell['epochs']} epochs, batch {cell['batch']}, AdamW at {cell['learning_rate']:g} in one cycle, "
        f"weight decay {cell['weight_decay']:g}, "
        f"{'images shifted and mirrored' if cell['augment'] else 'no augmentation'}, "
        f"{_PRECISION[cell['precision']]}. Evaluated once, at the end, on {judged}. {len(lines)} runs, "
        f"torch {versions['torch']}, snnTorch {versions['snntorch']}, {first['threads']} thread on "
        f"{first['machine']}, {first['date'][:10]} to {last['date'][:10]}. Command: `{first['command']}`."
    )


_DATA = {"fashion_mnist": "Fashion-MNIST", "cifar10_jpeg": "CIFAR-10 (JPEG)"}
_PRECISION = {"bf16": "bfloat16 autocast", "fp32": "float32"}


def _steps(found: Runs) -> list[int]:
    return sorted({kind.steps for kind in found})


def _text(difference: paired.Difference | None) -> str:
    return "" if difference is None else str(difference)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = list(rows)
    if not rows:
        return "No run is finished yet."
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "short": short,
    "grid": lambda: grid("lenet", "carry"),
    "neurons": neurons,
    "codes": codes,
    "cost": cost,
    "ablation": ablation,
    "first_round": first_round,
    "resnet": lambda: few("resnet"),
    "resnet_grid": lambda: grid("resnet"),
    "spikformer": lambda: few("spikformer"),
    "spikformer_grid": lambda: grid("spikformer"),
    "full": lambda: few("full"),
}


if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        print(f"## {name}\n\n{TABLES[name]()}\n")
