"""When a config can't hold the sizes that were asked for: the nearest sizes that would do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice, product
from typing import Any

from isogrow.errors import SizeError
from isogrow.layouts.config import Config
from isogrow.layouts.formula import evaluate, names
from isogrow.layouts.layout import Layout
from isogrow.plans.plan import Init
from isogrow.plans.words import REQUESTS, WORDS, addressed
from isogrow.rules import rule_for
from isogrow.rules.subject import Subject

LOOKED = 256  # sizes looked at, the nearest first, for a mend
TRIED = 8  # of those that do by the constraints and the rules, planned until one is taken

Option = tuple[int, Mapping[str, int]]
Request = Mapping[str, int]
Accepts = Callable[[Request], bool]


def mend(start: Subject, values: Mapping[str, int], axes: Iterable[str], accepts: Accepts) -> str:
    """The nearest sizes that would do: of one axis, or else of two together.

    Named are only words that a request may say, in sizes that `accepts` says would be taken in place of, or
    beside, what was asked.
    """
    words = list(dict.fromkeys(REQUESTS.get(axis, axis) for axis in sorted(axes)))
    words.sort(key=lambda word: word not in start.layout.residuals)
    sayable = [word for word in words if known(word, start.layout.stacks)]
    near = {word: list(islice(_near(start, word, values), LOOKED)) for word in sayable}

    facts = start.layout.facts(start.config, values)

    def holding(options: Iterable[Option], beside: Collection[str] = ()) -> Iterator[Option]:
        """Those by which the constraints are met that no axis `beside` has a part in."""
        return (option for option in options if met(start.layout, facts.over(option[1]), beside))

    def possible(word: str) -> bool:
        """Whether the rules grow it to any of these: where they grow it to none, no partner helps."""
        return any(ruled(start, sizes) for _, sizes in near[word])

    def singles(word: str) -> Iterator[Request]:
        return ({word: size} for size, sizes in holding(near[word]) if ruled(start, sizes))

    def pairs(word: str, other: str) -> Iterator[Request]:
        axes = {each: {axis for _, sizes in near[each][:1] for axis in sizes} for each in (word, other)}
        both = (holding(near[word], axes[other]), holding(near[other], axes[word]))
        for (one, sizes), (two, more) in product(*both):
            merged = facts.over({**sizes, **more})
            if met(start.layout, merged) and ruled(start, sizes) and ruled(start, more):
                yield {word: one, other: two}

    def first(requests: Iterator[Request]) -> list[str]:
        """The first that would be taken, in words."""
        taken = (request for request in islice(requests, TRIED) if accepts(request))
        return [" with ".join(f"{word}={n}" for word, n in request.items()) for request in islice(taken, 1)]

    found = [one for word in sayable for one in first(singles(word))]
    able = [word for word in sayable if possible(word)]
    if not found and able and able[0] == words[0]:
        found = [pair for other in able[1:] for pair in first(pairs(able[0], other))]
    if found:
        return f"{' or '.join(found)} would do"
    return (
        "grow all of them together"
        if able == words
        else "no sizes near these would do: leave them as they are"
    )


def known(word: str, stacks: Collection[str]) -> bool:
    """Whether a request may name an axis so."""
    stack, own = addressed(word)
    return own in WORDS and (not stack or stack in stacks)


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
    return met(layout, layout.facts(config, values))


def met(layout: Layout, facts: Mapping[str, Any], beside: Collection[str] = ()) -> bool:
    """Whether the constraints are met, but for those in which an axis `beside` has a part."""
    asked = (c for c in layout.constraints if not names(c) & frozenset(beside) and layout.say(c, facts))
    return all(evaluate(c, facts) for c in asked)


def ruled(start: Subject, sizes: Mapping[str, int]) -> bool:
    """Whether the rules grow these axes to these sizes, and the family refuses none of them."""
    if any(start.layout.refused(axis, start.config) for axis in sizes):
        return False
    try:
        for axis, size in sizes.items():
            rule_for(start, axis)(start, axis, (), size, Init())
    except SizeError:
        return False
    return True
