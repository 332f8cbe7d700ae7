"""Find the time steps that a call computes, from the shapes of its operands.

Networks come in two forms. In a loop over time, every call computes one step. Layers that take sequences see
``[T, B, ...]``, or ``[T * B, ...]`` with time folded into the batch, and compute all steps in one call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from snntorch_asnn.energy.recorder import Call

__all__ = ["LayerCalls", "TimedCall", "layer_calls", "steps_in"]


@dataclass(frozen=True)
class TimedCall:
    """A call and its steps, ``first .. first + steps - 1``."""

    call: Call
    first: int
    steps: int


@dataclass(frozen=True)
class LayerCalls:
    """A layer and all its calls in one sequence."""

    name: str
    kind: str
    calls: tuple[TimedCall, ...]


def layer_calls(calls: Sequence[Call], num_steps: int, batch: int) -> list[LayerCalls]:
    """Sort the calls of one sequence by layer, in the order in which the layers first ran.

    A layer is in a loop over time if its number of calls is a multiple of the number of steps. A layer that
    sees only some of the steps begins at the step that the network has reached by then.
    """
    layers: dict[object, list[int]] = defaultdict(list)
    for index, call in enumerate(calls):
        layers[call.module, call.kind, call.weight].append(index)
    steps = [max(steps_in(o.lead, num_steps, batch) for o in call.operands) for call in calls]
    loops = {
        key: len(indices) // num_steps
        for key, indices in layers.items()
        if len(indices) % num_steps == 0 and not any(_is_whole(calls[i], num_steps, batch) for i in indices)
    }
    reached = _reached(calls, steps, loops)
    groups: list[list[TimedCall]] = []
    for key, indices in layers.items():
        if key in loops:
            per_step = loops[key]
            groups += [
                [TimedCall(calls[i], step, 1) for step, i in enumerate(indices[k::per_step])]
                for k in range(per_step)
            ]
            continue
        timed = [TimedCall(calls[i], min(reached[i], num_steps - steps[i]), steps[i]) for i in indices]
        groups += [timed] if all(steps[i] == 1 for i in indices) else [[call] for call in timed]
    return _named(groups, calls)


def steps_in(lead: tuple[int, ...], num_steps: int, batch: int) -> int:
    """Number of steps in an operand, from its first sizes; 1 if the sizes show no time."""
    if len(lead) > 1 and 1 < lead[0] <= num_steps and lead[1] == batch:
        return lead[0]
    if lead[0] % batch == 0 and 1 < lead[0] // batch <= num_steps:
        return lead[0] // batch
    return num_steps if lead[0] % (num_steps * batch) == 0 else 1


def _is_whole(call: Call, num_steps: int, batch: int) -> bool:
    """Whether a call is certainly a whole sequence of several steps, and not one step of many tokens."""
    leads = [operand.lead for operand in call.operands]
    return num_steps > 1 and any(
        lead[:2] == (num_steps, batch) or lead[0] == num_steps * batch for lead in leads
    )


def _reached(calls: Sequence[Call], steps: Sequence[int], loops: dict[object, int]) -> list[int]:
    """Return the step that the network has reached before each call.

    This is the largest number of steps that a layer in a loop, or a layer of the same kind and size, has
    computed. The two copies of a hybrid-coded first layer have the same size.
    """
    in_loop: dict[object, float] = defaultdict(float)
    steps_by_size: dict[object, int] = defaultdict(int)
    reached = []
    for call, count in zip(calls, steps, strict=True):
        size = call.kind, call.weight
        looped = max(in_loop.values(), default=0.0)
        reached.append(max(int(looped + 1e-6), steps_by_size[size]))
        key = (call.module, *size)
        if key in loops:
            in_loop[key] += 1 / loops[key]
        else:
            steps_by_size[size] = reached[-1] + count
    return reached


def _named(groups: list[list[TimedCall]], calls: Sequence[Call]) -> list[LayerCalls]:
    """Name each layer after its module, with a number if needed, and with ``.product1`` for products."""
    order = {id(call): index for index, call in enumerate(calls)}
    groups.sort(key=lambda group: order[id(group[0].call)])
    count: dict[tuple[str, bool], int] = defaultdict(int)
    layers = []
    for group in groups:
        call = group[0].call
        product = call.kind == "product"
        count[call.module, product] += 1
        number = count[call.module, product]
        suffix = f".product{number}" if product else f".{number}" * (number > 1)
        layers.append(LayerCalls(call.module + suffix, call.kind, tuple(group)))
    return layers
