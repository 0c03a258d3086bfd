"""Sizes of axes: one number each, or one per layer (and head) where an architecture allows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from isogrow.layouts.layout import Index

MANY = 1 << 16  # indices of an axis that are listed at once


@dataclass(frozen=True)
class Sizes:
    """`values["ffn"]`, or `values["ffn[3]"]` for an axis whose `sites` name `layers`.

    >>> Sizes({"ffn[0]": 5, "ffn[1]": 7}, {"ffn": ("layers",)}).of("ffn", (("layers", 1),))
    7
    """

    values: Mapping[str, int]
    sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def of(self, axis: str, index: Index = ()) -> int:
        """The size of `axis` at an index (which may name more axes than the site does)."""
        return self.values[key(axis, self.site(axis, index)) if axis in self.sites else axis]

    def site(self, axis: str, index: Index) -> Index:
        """The part of an index that sizes of `axis` depend on."""
        found = dict(index)
        return tuple((name, found[name]) for name in self.sites.get(axis, ()))

    def has(self, axis: str) -> bool:
        return axis in self._axes

    @cached_property
    def _axes(self) -> frozenset[str]:
        return frozenset(name.partition("[")[0] for name in self.values)

    def indices(self, axes: tuple[str, ...], index: Index = ()) -> Iterator[Index]:
        """Every index over these axes, the first varying slowest; none is made before it is asked for, where
        a config states numbers that no model has."""
        many = any(self.values.get(axis, 0) > MANY for axis in axes)
        if not many and self.sites.keys().isdisjoint(axes):  # the same numbers everywhere
            numbered = ([(axis, i) for i in range(self.values[axis])] for axis in axes)
            for found in product(*numbered):
                yield (*index, *found)
            return
        for i in range(self.of(axes[0], index)):
            yield from self.indices(axes[1:], (*index, (axes[0], i)))

    def all_sites(self, axis: str) -> Iterator[Index]:
        """Every site at which this axis has a size of its own; one empty site for a common size."""
        return self.indices(self.sites.get(axis, ()))


def key(axis: str, site: Index) -> str:
    """The name of a size: `ffn`, `ffn[3]`, `key_dim[3,1]`."""
    return axis if not site else f"{axis}[{','.join(str(i) for _, i in site)}]"


def unkey(name: str) -> tuple[str, tuple[int, ...]]:
    """The inverse of `key`.

    >>> unkey("key_dim[3,1]")
    ('key_dim', (3, 1))
    """
    axis, _, rest = name.partition("[")
    return axis, tuple(int(i) for i in rest.rstrip("]").split(",")) if rest else ()
