"""The time step of a membrane that the caller keeps and passes back.

One neuron may serve several layers, each with a membrane of its own, so that the step of the last call is
not enough. A membrane is recognised by its memory, which ``detach()`` and views share and a copy does not.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from snntorch_asnn.neurons.run_state import StepIndex

__all__ = ["MembraneSteps"]

CLEAN_UP_ABOVE = 32
"""Number of entries above which entries of freed membranes are dropped."""


class MembraneSteps:
    """Maps each membrane, for as long as its memory lives, to the time step that follows it."""

    def __init__(self) -> None:
        self._after: dict[int, tuple[StorageWeakRef, StepIndex]] = {}

    def __deepcopy__(self, memo: object) -> Self:
        """A copied neuron also recognises the membranes of the original."""
        copied = type(self)()
        copied._after = dict(self._after)
        return copied

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()

    def remember(self, mem: Tensor, step: StepIndex) -> None:
        """Note that ``step`` follows ``mem``."""
        reference = _reference(mem)
        if reference is None:
            return
        if len(self._after) > CLEAN_UP_ABOVE:
            self._after = {key: entry for key, entry in self._after.items() if not entry[0].expired()}
        self._after[reference.cdata] = reference, step

    def find(self, mem: Tensor) -> int | None:
        """The step that follows ``mem``; None if it is unknown."""
        reference = _reference(mem)
        if reference is None:
            return None
        known, step = self._after.get(reference.cdata, (None, None))
        return None if known is None or step is None or known.expired() else int(step)


def _reference(mem: Tensor) -> StorageWeakRef | None:
    try:
        return StorageWeakRef(mem.untyped_storage())
    except (NotImplementedError, RuntimeError):
        return None  # a tensor without storage, inside torch.func or torch.export
