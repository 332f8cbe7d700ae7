"""The interface of an implementation; every entry of the engine's table is a module that has it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor

from snntorch_asnn.ops._adaptive_leaky.coefficients import Coefficients
from snntorch_asnn.ops._adaptive_leaky.rule import Rule

__all__ = ["Implementation", "Unavailable"]


class Unavailable(Exception):
    """An implementation cannot run a call. The message continues "impl='name'"; nothing was computed."""


class Run(Protocol):
    """A run over a sequence, in eager mode."""

    def __call__(
        self,
        x: Tensor,
        mem: Tensor | None,
        coefficients: Coefficients,
        rule: Rule,
        *,
        output_mem: bool,
        keep_mem: bool = True,
        keep_spikes: bool = True,
        affine: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Spikes in the dtype of ``x``; the membrane after the last step, or after each with ``output_mem``.

        With ``affine`` it is the run of ``coefficients.after(*affine)``. Without ``keep_spikes`` the first
        result may hold anything, without ``keep_mem`` the second.

        Raises:
            Unavailable: if the implementation cannot run this call.
        """


class RunInGraph(Protocol):
    """A run over a sequence as part of a graph that a compiler traces."""

    def __call__(
        self,
        x: Tensor,
        mem: Tensor | None,
        coefficients: Sequence[Tensor],
        key: str,
        *,
        output_mem: bool,
        keep_mem: bool,
        keep_spikes: bool,
        needs_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        """As :class:`Run`, for ``Coefficients.given`` and ``Rule.key``."""


class Implementation(Protocol):
    """A way to run a sequence. All agree with the reference: spikes exactly, gradients up to rounding."""

    @property
    def name(self) -> str:
        """Its name as ``impl=``."""

    @property
    def dtypes(self) -> Collection[torch.dtype] | None:
        """Dtypes of the input that it takes; None for all."""

    @property
    def covers(self) -> CoversInput:
        """Whether ``impl="auto"`` may choose it for an input of such a dtype on such a device."""

    @property
    def missing(self) -> MissingOn:
        """What it needs for a type of device and this machine lacks; None if it can run."""

    @property
    def sequence(self) -> Run:
        """Its run in eager mode."""

    @property
    def in_graph(self) -> RunInGraph | None:
        """Its run in a graph; None if Dynamo traces the other one."""


class CoversInput(Protocol):
    """See :class:`Implementation`."""

    def __call__(self, x: Tensor, /) -> bool:
        """Look at the dtype and the device of ``x``."""


class MissingOn(Protocol):
    """See :class:`Implementation`."""

    def __call__(self, device_type: str, /) -> str | None:
        """Return the object of a sentence with "needs"."""
