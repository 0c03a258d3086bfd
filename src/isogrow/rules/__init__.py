"""The rules: how each kind of axis grows without changing the function.

    inner.py      3.1 MLP expansion, 3.2 head addition, 3.3 heads expansion
    alibi.py      where heads with slopes of their own go
    attention.py  3.4 attention expansion
    hidden.py     3.5 hidden dimension expansion
    layers.py     3.6 layer addition

A rule is a function of a `Subject`, the axis and its new size; it returns one `Step`. Which rule an
axis takes follows from how the layout uses the axis, never from the family's name.
"""

from __future__ import annotations

from collections.abc import Callable

from isogrow.layouts.layout import Index
from isogrow.plans.plan import Init, Step
from isogrow.rules import attention, hidden, inner, layers
from isogrow.rules.subject import Subject

Rule = Callable[[Subject, str, Index, int, Init], Step]


def rule_for(subject: Subject, axis: str) -> Rule:
    """The rule that grows `axis` (layers take `at` as well, so the planner calls theirs itself)."""
    if axis in subject.layout.residuals:
        return hidden.grow
    if any(axis == attention.axis for attention in subject.layout.attentions):
        return attention.grow
    if subject.is_index(axis) and not any(True for _ in subject.uses(axis)):
        return layers.repeat
    return inner.grow
