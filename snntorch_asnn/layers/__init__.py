"""Building blocks over time: every tensor is ``[T, B, ...]``, time first."""

from __future__ import annotations

from snntorch_asnn.layers.attention import SpikingSelfAttention, TokenQKAttention, spiking_attention
from snntorch_asnn.layers.conv_spike import ConvNorm, ConvSpike, LinearNorm, LinearSpike
from snntorch_asnn.layers.hybrid_stem import (
    AnalogCarry,
    AnalogSteps,
    HybridStem,
    first_conv_norm,
    first_conv_spike,
)
from snntorch_asnn.layers.norm_fusion import fold_norm, fuse_norm, unfuse_norm
from snntorch_asnn.layers.norm_leaky import NormLeaky
from snntorch_asnn.layers.norm_over_time import NormOverTime
from snntorch_asnn.layers.over_time import OverTime
from snntorch_asnn.layers.pointwise import Pointwise
from snntorch_asnn.layers.readout import MeanReadout, TimeWeightedReadout
from snntorch_asnn.layers.shortcut import Residual, sew_add, sew_and, sew_iand
from snntorch_asnn.layers.step_norm import StepBatchNorm, StepNorm, set_norm_over_time, split_norms
from snntorch_asnn.layers.time_folded import TimeFolded, fold_time, max_pool
from snntorch_asnn.layers.tokens import DepthwiseMixer, SpikingMLP, on_tokens, to_maps, to_tokens

__all__ = [
    "AnalogCarry",
    "AnalogSteps",
    "ConvNorm",
    "ConvSpike",
    "DepthwiseMixer",
    "HybridStem",
    "LinearNorm",
    "LinearSpike",
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
    "first_conv_norm",
    "first_conv_spike",
    "fold_norm",
    "fold_time",
    "fuse_norm",
    "max_pool",
    "on_tokens",
    "set_norm_over_time",
    "sew_add",
    "sew_and",
    "sew_iand",
    "spiking_attention",
    "split_norms",
    "to_maps",
    "to_tokens",
    "unfuse_norm",
]
