"""Head addition under ALiBi (arXiv 2108.12409, section 3): an old head keeps its slope.

Head j of n adds -m(j, n) · distance to its logits, and m depends on n. With p the largest power of two up to
n, and M the layout's `most` (8 in the paper),

    m(j, n) = 2^(-M (j + 1) / p)                for j < p
    m(j, n) = 2^(-M (2 (j - p) + 1) / 2p)       for the other n - p

Exponents are multiples of M/p, and then the first odd multiples of M/2p. For n̂ < 2p the old ones come first;
for n̂ ≥ 2p all of them, being multiples of M/2p, are among the first p̂. So whatever n and n̂ ≥ n are, the old
slopes are among the new ones: old heads go where their slopes are, and new heads take the others.

Where heads are grouped, head j is head g of group e, j = e · group + g, and groups and their heads move only
as wholes: a size is refused where that does not bring every slope to its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import prod

from isogrow.errors import SizeError
from isogrow.plans.plan import OLD, Place
from isogrow.rules.places import MORE, NEW
from isogrow.rules.subject import Subject

NAMED = 2  # sizes that would do, in a refusal


def exponents(heads: int) -> list[Fraction]:
    """-log2(m(j, heads)) / M for every head j.

    >>> [str(e) for e in exponents(3)]
    ['1/2', '1', '1/4']
    """
    power = 1 << (heads.bit_length() - 1)
    first = [Fraction(j + 1, power) for j in range(power)]
    return first + [Fraction(2 * j + 1, 2 * power) for j in range(heads - power)]


def placed(subject: Subject, axis: str, new: int) -> tuple[Place, ...] | None:
    """Where the heads of a grown axis go; None where no bias depends on their number.

    Raises `SizeError` where no order brings every old head to its slope.
    """
    axes = next(iter(_head_axes(subject, axis)), None)
    if axes is None:
        return None
    found = _positions(subject, axes, axis, new)
    if found is None:
        raise _refused(subject, axes, axis, new)
    return _runs(found, new)


def _head_axes(subject: Subject, axis: str) -> Iterator[tuple[str, ...]]:
    """The axes that number the heads of a biased attention, if `axis` is one of them."""
    for attention in subject.layout.attentions:
        if attention.query in subject.slots and subject.layout.biased(attention, subject.config):
            queries = subject.slots[attention.query]
            axes = tuple(a for a in queries.produced if a != attention.axis)
            if axis in axes:
                yield axes


def _positions(subject: Subject, axes: tuple[str, ...], axis: str, new: int) -> list[int] | None:
    """The new position of each old one on `axis`; None where their heads' slopes don't move together."""
    sizes = {name: subject.sizes.of(name) for name in axes}
    before, after = _slopes(sizes, axis), _slopes({**sizes, axis: new}, axis)
    at = {slopes: position for position, slopes in enumerate(after)}
    found = [at[slopes] for slopes in before if slopes in at]
    return found if len(found) == len(before) else None


def _slopes(sizes: Mapping[str, int], axis: str) -> list[tuple[Fraction, ...]]:
    """For each position on `axis` the exponents of the heads that it holds."""
    names = list(sizes)
    inner = prod(sizes[name] for name in names[names.index(axis) + 1 :])
    held: list[list[Fraction]] = [[] for _ in range(sizes[axis])]
    for head, exponent in enumerate(exponents(prod(sizes.values()))):
        held[head // inner % sizes[axis]].append(exponent)
    return [tuple(found) for found in held]


def _runs(positions: list[int], new: int) -> tuple[Place, ...]:
    """Places of old heads at these positions; new heads extend the old ones in turn."""
    old = len(positions)
    sources = {position: (source, OLD) for source, position in enumerate(positions)}
    free = [position for position in range(new) if position not in sources]
    sources |= {p: (i % old, NEW if i < old else MORE) for i, p in enumerate(free)}
    found: list[Place] = []
    for position in range(new):
        source, label = sources[position]
        last = found[-1] if found else None
        if last is not None and (last.source + last.count, last.label) == (source, label):
            found[-1] = Place(last.start, last.count + 1, last.source, label)
        else:
            found.append(Place(position, 1, source, label))
    return tuple(found)


def _refused(subject: Subject, axes: tuple[str, ...], axis: str, new: int) -> SizeError:
    old = subject.sizes.of(axis)
    sizes = sorted(range(old + 1, 4 * new + 1), key=lambda size: abs(size - new))
    fit = [size for size in sizes if _positions(subject, axes, axis, size) is not None][:NAMED]
    # The outermost axis bears its own name in a request, and those within it are asked for as heads.
    others = prod(subject.sizes.of(name) for name in axes if name != axis)
    word, unit = (subject.word(axis), 1) if axis == axes[0] else ("heads", others)
    near = " or ".join(f"{word}={size * unit}" for size in sorted(fit))
    return SizeError(
        f"{word} can't grow from {old * unit} to {new * unit}: under ALiBi a head's slope follows from its"
        " number among all heads, and no order of whole groups leaves every old head its slope;"
        f" {f'give {near}' if near else 'grow another axis instead'}"
    )
