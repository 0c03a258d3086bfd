"""How a mesh of ranks holds a model, as data: which dim of each tensor which dim of the mesh cuts.

    replicate=2,fsdp=16,tp=2: ranks are numbered row by row, so that neighbours share a tensor-parallel layer

`replicate` cuts nothing. `fsdp` cuts the first dim of every parameter. `tp` cuts the dim that holds heads, or
an MLP's inner channels; what has no such dim (norms, embeddings, routers) is whole along it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from isogrow.errors import SizeError
from isogrow.layouts.pattern import Dim, Sum
from isogrow.plans.anatomy import Stored
from isogrow.plans.moving import Regions
from isogrow.plans.spread import Cut, check_even, local_box
from isogrow.plans.words import MLPS

DIMS = ("replicate", "fsdp", "tp")
MOST = 1 << 16  # ranks of a mesh
PARALLEL = frozenset(("heads", "kv_heads", *MLPS))  # axes that tensor parallelism cuts


@dataclass(frozen=True)
class Mesh:
    """The dims of a mesh and their lengths, the first of which varies slowest."""

    dims: tuple[tuple[str, int], ...]

    @property
    def ranks(self) -> int:
        return prod(length for _, length in self.dims)

    def __str__(self) -> str:
        return ",".join(f"{name}={length}" for name, length in self.dims)

    def cuts(self, stored: Stored, parameter: bool = True) -> tuple[Cut, ...]:
        """What each dim of the mesh does to a tensor; one that is no parameter is whole on every rank."""
        parallel = _parallel(stored) if any(name == "tp" for name, _ in self.dims) else None
        shards = Cut(0, late=parallel == 0)
        done = {"replicate": Cut(), "fsdp": shards, "tp": Cut(parallel)}
        return tuple(done[name] if parameter else Cut() for name, _ in self.dims)

    def regions(self, stored: Stored, parameter: bool = True) -> Regions:
        """The region of a tensor that each rank holds.

        Raises `SizeError` where a dim other than the first is cut into parts that are not alike.
        """
        shape, lengths = stored.header.shape, [length for _, length in self.dims]
        cuts = self.cuts(stored, parameter)
        if not shape:
            return dict.fromkeys(range(self.ranks), ())
        parts: dict[int, int] = {}
        for cut, length in zip(cuts, lengths, strict=True):
            if cut.dim is not None:
                parts[cut.dim] = parts.get(cut.dim, 1) * length
        check_even(stored.name, shape, parts)
        places = product(*map(range, lengths))
        return {rank: local_box(shape, lengths, place, cuts) for rank, place in enumerate(places)}


def _parallel(stored: Stored) -> int | None:
    """The dim that tensor parallelism cuts."""
    if stored.line.slot.gain:
        return None
    dims = enumerate(stored.line.parsed.dims)
    return next((d for d, dim in dims if not dim.index and PARALLEL & set(_axes(dim))), None)


def _axes(dim: Dim) -> list[str]:
    found: list[str] = []
    for factor in dim.factors:
        parts = [axes for _, axes in factor.parts] if isinstance(factor, Sum) else [(factor,)]
        found += [axis for axes in parts for axis in axes]
    return found


def read_mesh(said: str | Mapping[str, int] | None, ranks: int | None = None) -> Mesh:
    """The mesh that is meant by `fsdp=32,tp=2`, or the same as a mapping; without one all ranks are of FSDP.

    Raises `SizeError` for what can't be read, and where its lengths do not make that many ranks.

    >>> read_mesh("fsdp=32,tp=2").ranks
    64
    """
    if said is None:
        said = {"fsdp": 1 if ranks is None else ranks}
    given: list[tuple[str, Any]]
    given = list(said.items()) if isinstance(said, Mapping) else [_length(text) for text in said.split(",")]
    names = [name for name, _ in given]
    if names != [name for name in DIMS if name in names]:
        raise SizeError(
            f"the mesh {','.join(names)} is not known: give some of replicate, fsdp and tp, each once and in"
            " this order, like fsdp=32,tp=2"
        )
    for name, length in given:
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise SizeError(f"the mesh has {name}={length!r}: give a number of ranks, 1 or more")
    mesh = Mesh(tuple(given))
    if ranks is not None and mesh.ranks != ranks:
        raise SizeError(
            f"the mesh {mesh} has {mesh.ranks:,} ranks, and {ranks:,} are asked for: give lengths whose"
            f" product is {ranks:,}, or {mesh.ranks:,} ranks"
        )
    if mesh.ranks > MOST:
        raise SizeError(f"the mesh {mesh} has {mesh.ranks:,} ranks: give at most {MOST:,}")
    return mesh


def _length(text: str) -> tuple[str, int]:
    name, _, length = text.partition("=")
    digits = length.strip()
    if not digits.isdecimal() or len(digits) > 9:
        raise SizeError(f"the mesh {text!r} can't be read: give a dim and its length, like fsdp=32")
    return name.strip(), int(digits)
