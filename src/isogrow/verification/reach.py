"""Which parts of a model a run calls, so that a proof can say what none of its runs reached."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from torch import nn


def holders(name: str) -> tuple[str, str]:
    """The module of a parameter, and that around it, which may read its weight without a call.

    >>> holders("encoder.positions.weight")
    ('encoder.positions', 'encoder')
    """
    inner = name.rpartition(".")[0]
    return inner, inner.rpartition(".")[0]


@contextmanager
def noting(model: nn.Module) -> Generator[set[str]]:
    """Within it, the names of the modules that the model's last whole run called: one that fails changes
    nothing.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> with noting(model) as ran:
    ...     _ = model(torch.ones(1, 2))
    >>> sorted(ran)
    ['0', '1']
    """
    now, ran = set[str](), set[str]()

    def begin(*_: object) -> None:
        now.clear()

    def end(*_: object) -> None:
        ran.clear()
        ran.update(now)

    hooks = [model.register_forward_pre_hook(begin), model.register_forward_hook(end)]
    for name, module in model.named_modules():
        if name:
            hooks.append(module.register_forward_hook(partial(_note, now, name)))
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def _note(names: set[str], name: str, *_: object) -> None:
    names.add(name)
