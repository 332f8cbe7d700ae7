"""References of a network to its modules: registered children, and those that PyTorch does not see.

Modules in plain lists, tuples, sets and dicts, in closures, defaults, partials and bound methods are not
children of a network, but its ``forward`` may call them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, SimpleNamespace
from typing import Any, NamedTuple

from snntorch import SpikingNeuron
from torch import nn

__all__ = ["Reference", "references"]

Put = Callable[[Any], None]


class Reference(NamedTuple):
    """One place that refers to a module."""

    name: str
    module: nn.Module
    registered: bool
    """Whether PyTorch sees the module, in ``parameters()``, ``state_dict()`` and ``.to()``."""
    put: Put | None
    """Puts another module in this place; None if that is impossible."""


_OF_MODULES = frozenset(vars(nn.Module()))
"""PyTorch's own attributes of a module."""


def references(net: nn.Module) -> list[Reference]:
    """Every place below ``net`` that refers to a module, each place once."""
    return list(_Walk().module(net, "", registered=True))


class _Walk:
    def __init__(self) -> None:
        self.seen: dict[int, Any] = {}  # keeps the objects alive, so that no id is used twice

    def first(self, thing: object) -> bool:
        known = id(thing) in self.seen
        self.seen[id(thing)] = thing
        return not known

    def module(self, module: nn.Module, prefix: str, *, registered: bool) -> Iterator[Reference]:
        if not self.first(module):
            return
        dot = f"{prefix}." if prefix else ""
        for name, child in list(module._modules.items()):
            if child is not None:
                put = functools.partial(module._modules.__setitem__, name)
                yield Reference(f"{dot}{name}", child, registered, put)
                yield from self.module(child, f"{dot}{name}", registered=registered)
        # snnTorch's neurons keep a bound method of their own.
        own = {} if isinstance(module, SpikingNeuron) else vars(module)
        for name, value in list(own.items()):
            if name not in _OF_MODULES:
                yield from self.value(
                    value, f"{dot}{name}", functools.partial(vars(module).__setitem__, name)
                )

    def value(self, value: Any, name: str, put: Put | None) -> Iterator[Reference]:
        """The modules in ``value``, which stands where ``put`` puts another."""
        if isinstance(value, nn.Module):
            yield Reference(name, value, False, put)
            yield from self.module(value, name, registered=False)
        elif isinstance(value, tuple):
            yield from self.tuple(value, name, put)
        elif isinstance(value, MethodType):
            method = value.__name__
            bound = None if put is None else lambda new: put(getattr(new, method))
            yield from self.value(value.__self__, name, bound)
        elif (isinstance(value, _CONTAINERS) or _is_record(value)) and self.first(value):
            yield from self.container(value, name)

    def tuple(self, value: tuple[Any, ...], name: str, put: Put | None) -> Iterator[Reference]:
        items = list(value)
        make = getattr(type(value), "_make", type(value))

        def put_item(i: int, new: Any) -> None:
            items[i] = new
            if put is not None:
                put(make(items))

        for i, item in enumerate(value):
            known = None if put is None else functools.partial(put_item, i)
            yield from self.value(item, f"{name}[{i}]", known)

    def container(self, value: Any, name: str) -> Iterator[Reference]:
        if isinstance(value, list):
            for i, item in enumerate(list(value)):
                yield from self.value(item, f"{name}[{i}]", functools.partial(value.__setitem__, i))
        elif isinstance(value, dict):
            for key, item in list(value.items()):
                yield from self.value(item, f"{name}[{key!r}]", functools.partial(value.__setitem__, key))
        elif isinstance(value, set | frozenset):
            for item in list(value):
                swap = functools.partial(_swap, value, item) if isinstance(value, set) else None
                yield from self.value(item, f"{name}{{...}}", swap)
        elif isinstance(value, functools.partial):
            yield from self.partial(value, name)
        elif isinstance(value, FunctionType):
            yield from self.function(value, name)
        else:
            for key, item in list(vars(value).items()):
                yield from self.value(item, f"{name}.{key}", functools.partial(vars(value).__setitem__, key))

    def partial(self, value: functools.partial[Any], name: str) -> Iterator[Reference]:
        def put(func: Any = None, args: Any = None) -> None:
            func, args = func or value.func, value.args if args is None else args
            value.__setstate__((func, args, value.keywords, vars(value)))  # type: ignore[attr-defined]

        yield from self.value(value.func, f"{name}.func", lambda new: put(func=new))
        yield from self.tuple(value.args, f"{name}.args", lambda new: put(args=new))
        yield from self.value(value.keywords, name, None)

    def function(self, value: FunctionType, name: str) -> Iterator[Reference]:
        for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                held = cell.cell_contents
            except ValueError:  # not yet assigned
                continue
            put = functools.partial(setattr, cell, "cell_contents")
            yield from self.value(held, f"{variable} in {name}", put)
        if value.__defaults__:
            renew = functools.partial(setattr, value, "__defaults__")
            yield from self.tuple(value.__defaults__, f"defaults of {name}", renew)
        if value.__kwdefaults__:
            yield from self.value(value.__kwdefaults__, f"defaults of {name}", None)
        for variable in sorted(_global_names(value.__code__)):
            held = value.__globals__.get(variable)
            # Other code may use this global, so the module is not replaced.
            if isinstance(held, nn.Module):
                yield Reference(f"global {variable} in {name}", held, False, None)


_CONTAINERS = (list, dict, set, frozenset, functools.partial, FunctionType)


def _is_record(value: object) -> bool:
    return isinstance(value, SimpleNamespace) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__")
    )


def _swap(items: set[Any], old: Any, new: Any) -> None:
    items.discard(old)
    items.add(new)


def _global_names(code: CodeType) -> set[str]:
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {*code.co_names, *(name for one in inner for name in _global_names(one))}
