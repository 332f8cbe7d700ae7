"""The directive ``model-table``: every model of the zoo, as the registry has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from inspect import cleandoc
from itertools import groupby

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from snntorch_asnn.models import SpikingModel, create_model, list_models
from snntorch_asnn.models.registry import builder


@dataclass(frozen=True)
class Row:
    """The columns of the table for one model."""

    name: str
    summary: str
    family: type[SpikingModel]
    parameters: int
    macs: int
    images: tuple[int, ...]
    num_classes: int


def describe(name: str) -> Row:
    """Parameters without those of neurons, and multiply-accumulates of one step for one image.

    On the meta device, which computes shapes only. Models for large images get 1000 classes, the others 10.
    """
    num_classes = 1000 if _on_meta(name, 10).image_size == (224, 224) else 10
    model = _on_meta(name, num_classes)
    images = (model.in_channels, *model.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, *images, device="meta"))
    return Row(
        name=name,
        summary=cleandoc(builder(name).__doc__ or "").partition("\n")[0],
        family=type(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        images=images,
        num_classes=num_classes,
    )


def _on_meta(name: str, num_classes: int) -> SpikingModel:
    with torch.device("meta"):
        return create_model(
            name,
            num_classes=num_classes,
            num_steps=1,
            neuron=nn.Identity,
            encoding=lambda images, num_steps: images.expand(num_steps, *images.shape),
            readout="mean",
        ).eval()


def source(family: type[SpikingModel]) -> str:
    """The source that the class's docstring names."""
    found = re.search(r"^Source: (.*?)(?:\n\n|\Z)", cleandoc(family.__doc__ or ""), re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def table() -> str:
    """The zoo as MyST Markdown, one table for each family."""
    rows = sorted(map(describe, list_models()), key=lambda row: (row.family.__name__, row.macs))
    parts = []
    for family, members in groupby(rows, key=lambda row: row.family):
        parts.append(f"**{{class}}`~snntorch_asnn.models.{family.__name__}`.** Source: {source(family)}")
        lines = [
            "| name | network | parameters | MACs per step | default input | classes |",
            "|---|---|--:|--:|---|--:|",
        ]
        for row in members:
            size = "×".join(map(str, row.images))
            lines.append(
                f"| `{row.name}` | {row.summary} | {row.parameters:,} | {row.macs:,} | {size} |"
                f" {row.num_classes:,} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


class ModelTable(SphinxDirective):
    """The table of all models."""

    def run(self) -> list[nodes.Node]:
        """Parse the generated Markdown in place."""
        return self.parse_text_to_nodes(table())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("model-table", ModelTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
