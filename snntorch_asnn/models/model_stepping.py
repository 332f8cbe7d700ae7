"""A model of the zoo, run on one step after the other."""

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
    """Runs a model on one step at a time, see :meth:`SpikingModel.stepping`.

    Args:
        model: The model, which is left as it is.

    Attributes:
        step: Index of the next step.

    Raises:
        ValueError: The model has a neuron outside of :class:`~snntorch_asnn.layers.OverTime` or one that
            keeps no state, or norms whose statistics are over all steps together.
    """

    def __init__(self, model: SpikingModel) -> None:
        _check_neurons(model)
        _check_norms(model)
        super().__init__(model)
        self._model = model

    def __call__(self, planes: Tensor) -> Tensor:
        """Run the next step.

        Args:
            planes: The step's encoded images, ``[B, C, H, W]``.

        Returns:
            The step's share of the logits, ``[B, num_classes]``. The mean over all steps is what the model
            gives for the whole sequence.

        Raises:
            ValueError: The planes have another shape than the model was built for, or all steps have run.
            RuntimeError: The block has ended, or an earlier step has failed half-way.
        """
        self.check_open()
        model = self._model
        shape = model.encode.image_shape
        if planes.ndim != 4 or planes.shape[1:] != shape:
            wanted = ", ".join(map(str, shape))
            raise ValueError(f"planes must be one step's, [B, {wanted}]; got shape {tuple(planes.shape)}")
        step = self.step
        if step >= model.num_steps:
            raise ValueError(f"planes must be of a step below num_steps={model.num_steps}; all have run")
        logits = self.run(model.step_logits, planes[None])
        # The readout weighs each step on its own, so the other steps may hold anything.
        weighed: Tensor = model.readout.weigh(logits.expand(model.num_steps, *logits.shape[1:]))
        return weighed[step]


def _check_neurons(model: SpikingModel) -> None:
    """Refuse neurons that keep their state by themselves."""
    for name, neuron in neurons_alone(model):
        raise ValueError(
            f"model: {name} must be in an OverTime to run step by step; got {type(neuron).__name__} alone"
        )


def _check_norms(model: SpikingModel) -> None:
    """Refuse norms that take their statistics from all steps together."""
    if model.norm_over_time != "pooled":
        return
    for name, norm in model.named_modules():
        if isinstance(norm, BatchNormBase) and takes_batch_statistics(norm):
            raise ValueError(
                f"model: {name} takes its statistics from all steps together, so the model cannot run step by"
                " step; call model.eval(), or build it with norm_over_time='sequential'"
            )
