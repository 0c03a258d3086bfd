"""When a config can't hold the sizes that were asked for: the nearest sizes that would do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product

from isogrow.errors import SizeError
from isogrow.layouts.config import Config
from isogrow.layouts.formula import evaluate
from isogrow.layouts.layout import Layout
from isogrow.plans.plan import Init
from isogrow.plans.words import REQUESTS
from isogrow.rules import rule_for
from isogrow.rules.subject import Subject

LOOKED = 256  # sizes looked at, the nearest first, for a mend

Option = tuple[int, Mapping[str, int]]


def mend(start: Subject, values: Mapping[str, int], axes: Iterable[str]) -> str:
    """The nearest sizes that would do: of one axis, or else of two together."""
    words = list(dict.fromkeys(REQUESTS.get(axis, axis) for axis in sorted(axes)))
    words.sort(key=lambda word: word not in start.layout.residuals)
    near = {word: list(islice(_near(start, word, values), LOOKED)) for word in words}

    def fits(*options: Option) -> bool:
        merged = dict(values)
        for _, sizes in options:
            merged |= sizes
        return holds(start.layout, start.config, merged) and all(ruled(start, sizes) for _, sizes in options)

    ones = (next((f"{w}={a[0]}" for a in near[w] if fits(a)), "") for w in words)
    found = [one for one in ones if one] or [
        pair
        for other in words[1:]
        for pair in islice(
            (
                f"{words[0]}={a[0]} with {other}={b[0]}"
                for a, b in product(near[words[0]], near[other])
                if fits(a, b)
            ),
            1,
        )
    ]
    return f"{' or '.join(found)} would do" if found else "grow all of them together"


def _near(start: Subject, word: str, values: Mapping[str, int]) -> Iterator[Option]:
    """Larger sizes in a request's words and as sizes of axes, the nearest to what was asked for first."""
    axes = [axis for axis, name in REQUESTS.items() if name == word and start.sizes.has(axis)] or [word]
    grouped = "group" in axes
    axes, unit = (["group"], values["kv_heads"]) if grouped else (axes, 1)
    low, asked = (max(sizes[axis] for axis in axes) for sizes in (start.sizes.values, values))
    least = low if grouped and unit > start.sizes.of("kv_heads") else low + 1
    for size in sorted(range(least, 4 * asked + 1), key=lambda n: abs(n - asked)):
        yield size * unit, dict.fromkeys(axes, size)


def holds(layout: Layout, config: Config, values: Mapping[str, int]) -> bool:
    """Whether the config's constraints are met by these sizes (those on axes that there are)."""
    facts = layout.facts(config, values)
    return all(evaluate(c, facts) for c in layout.constraints if layout.say(c, facts))


def ruled(start: Subject, sizes: Mapping[str, int]) -> bool:
    """Whether the rules grow these axes to these sizes."""
    try:
        for axis, size in sizes.items():
            rule_for(start, axis)(start, axis, (), size, Init())
    except SizeError:
        return False
    return True
