"""Building blocks over time: every tensor is ``[T, B, ...]``, time first."""

from __future__ import annotations

from snntorch_asnn.layers.attention import SpikingSelfAttention, TokenQKAttention, spiking_attention
from snntorch_asnn.layers.hybrid_stem import AnalogCarry, AnalogSteps, HybridStem
from snntorch_asnn.layers.norm_leaky import NormLeaky, fold_norm, fuse_norm
from snntorch_asnn.layers.norm_over_time import NormOverTime
from snntorch_asnn.layers.over_time import OverTime
from snntorch_asnn.layers.readout import MeanReadout, TimeWeightedReadout
from snntorch_asnn.layers.shortcut import Residual, sew_add, sew_and, sew_iand
from snntorch_asnn.layers.step_norm import StepBatchNorm, StepNorm, set_norm_over_time, split_norms
from snntorch_asnn.layers.time_folded import TimeFolded, fold_time
from snntorch_asnn.layers.tokens import Pointwise, SpikingMLP, to_maps, to_tokens

__all__ = [
    "AnalogCarry",
    "AnalogSteps",
    "HybridStem",
    "MeanReadout",
    "NormLeaky",
    "NormOverTime",
    "OverTime",
    "Pointwise",
    "Residual",
    "SpikingMLP",
    "SpikingSelfAttention",
    "StepBatchNorm",
    "StepNorm",
    "TimeFolded",
    "TimeWeightedReadout",
    "TokenQKAttention",
    "fold_norm",
    "fold_time",
    "fuse_norm",
    "set_norm_over_time",
    "sew_add",
    "sew_and",
    "sew_iand",
    "spiking_attention",
    "split_norms",
    "to_maps",
    "to_tokens",
]
