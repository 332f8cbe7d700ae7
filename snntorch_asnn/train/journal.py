"""The log of a run: lines of JSON, and TensorBoard if it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from snntorch_asnn.train.run_folder import RunFolder


class Journal:
    """Writes ``metrics.jsonl``, one line an epoch, ``steps.jsonl``, a line every few steps, and TensorBoard.

    Args:
        folder: of the run.
        tensorboard: whether to log for TensorBoard too, if it is installed.
        steps_done: steps of the run so far; what TensorBoard shows of later ones is hidden.
    """

    def __init__(self, folder: RunFolder, *, tensorboard: bool, steps_done: int) -> None:
        self.folder = folder
        self.board: Any = None
        if tensorboard and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(folder.tensorboard, purge_step=steps_done or None)

    def go_on_from(self, metrics: Iterable[Mapping[str, Any]], *, epoch: int, step: int) -> None:
        """Drop the lines that a run had written after the state that it is continued from."""
        steps = self.folder.read_lines(self.folder.steps)
        self.folder.rewrite(self.folder.metrics, metrics)
        kept = [line for line in steps if (line["epoch"], line["step"]) <= (epoch, step)]
        self.folder.rewrite(self.folder.steps, kept)

    def step(self, line: Mapping[str, Any], total: int) -> None:
        """Log a step, the ``total``-th of the run."""
        self.folder.append(self.folder.steps, line)
        self._show("step", line, total)

    def epoch(self, line: Mapping[str, Any], total: int) -> None:
        """Log an epoch that ended with the ``total``-th step of the run."""
        self.folder.append(self.folder.metrics, line)
        self._show("epoch", line, total)

    def close(self) -> None:
        """Write what is still in memory."""
        if self.board is not None:
            self.board.close()

    def _show(self, group: str, line: Mapping[str, Any], total: int) -> None:
        if self.board is not None:
            for name, value in line.items():
                if name not in ("epoch", "step") and isinstance(value, int | float):
                    self.board.add_scalar(f"{group}/{name}", value, total)
