"""Run a model of the zoo step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from snntorch_asnn._torch import BatchNormBase
from snntorch_asnn.layers.norm_over_time import takes_batch_statistics
from snntorch_asnn.layers.over_time import neurons_alone
from snntorch_asnn.layers.stepping import Stepping

if TYPE_CHECKING:
    from snntorch_asnn.models.base import SpikingModel

__all__ = ["ModelStepping"]


class ModelStepping(Stepping):
    """Run a model one step at a time, see :meth:`SpikingModel.stepping`.

    Args:
        model: Model to run, which is not changed.

    Attributes:
        step: Index of the next step.

    Raises:
        ValueError: The model has a neuron outside of :class:`~snntorch_asnn.layers.OverTime`, a layer that
            cannot run step by step, or norms that take their statistics from all steps together.
    """

    def __init__(self, model: SpikingModel) -> None:
        _check_neurons(model)
        _check_norms(model)
        super().__init__(model)
        self._model = model

    def __call__(self, planes: Tensor) -> Tensor:
        """Run the next step.

        Args:
            planes: Encoded images of the step, ``[B, C, H, W]``.

        Returns:
            Weighted logits of the step, ``[B, num_classes]``. Their mean over all steps is the model's output
            for the whole sequence.

        Raises:
            ValueError: The planes do not have the shape that the model was built for, or all steps have run.
            RuntimeError: The ``with`` block has ended, or an earlier step failed.
        """
        self.check_open()
        model = self._model
        shape = model.encode.image_shape
        if planes.ndim != 4 or planes.shape[1:] != shape:
            wanted = ", ".join(map(str, shape))
            raise ValueError(f"planes of one step must be [B, {wanted}]; got shape {tuple(planes.shape)}")
        step = self.step
        if step >= model.num_steps:
            raise ValueError(
                f"the model runs num_steps={model.num_steps} steps, and all have run; call model.stepping() "
                "for the next sequence"
            )
        logits = self.run(model.step_logits, planes[None])
        # The readout weights each step alone, so the values at the other steps do not matter.
        weighted: Tensor = model.readout.weigh(logits.expand(model.num_steps, *logits.shape[1:]))
        return weighted[step]


def _check_neurons(model: SpikingModel) -> None:
    """Refuse neurons outside of an OverTime, which keep their own state."""
    for name, neuron in neurons_alone(model):
        raise ValueError(
            f"layer {name!r} of the model must be in an OverTime to run step by step; got a bare "
            f"{type(neuron).__name__}"
        )


def _check_norms(model: SpikingModel) -> None:
    """Refuse norms that take their statistics from all steps together."""
    if model.norm_over_time != "pooled":
        return
    for name, norm in model.named_modules():
        if isinstance(norm, BatchNormBase) and takes_batch_statistics(norm):
            raise ValueError(
                f"the model cannot run step by step, because its norm {name!r} takes statistics from all "
                "steps together; call model.eval(), or build the model with norm_over_time='sequential'"
            )
