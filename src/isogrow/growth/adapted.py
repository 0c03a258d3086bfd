"""What an adapter's tensors are, seen through the layout of the base that has grown: the weights that they
stand beside, or in the place of. No entry is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

from isogrow.errors import CheckpointError
from isogrow.layouts.layout import Index, Layout, Line
from isogrow.layouts.lines import name_axes
from isogrow.layouts.naming import applying, renamed, renames_in
from isogrow.layouts.pattern import Sum
from isogrow.plans.anatomy import Header, Stored, name_of
from isogrow.plans.factors import Factors
from isogrow.plans.pieces import Block, origin
from isogrow.plans.plan import Plan
from isogrow.plans.sizes import Sizes
from isogrow.stores.adapters import BEFORE, MATRICES, matrix_of, names
from isogrow.stores.targets import adapted_parameter, targeted

WRAPPED = ".base_layer"  # between a module's name and what it had before PEFT wrapped it
IN_TURN = (
    "give as base (--base) what was grown from the adapter's own base; where that has grown several times,"
    " each of these in turn"
)
OTHER: Mapping[str, str] = {"A": "B", "B": "A"}


@dataclass(frozen=True)
class GrownBase:
    """A grown base: its folder as it was given, its config and layout, and the plan that made it."""

    name: str
    config: Mapping[str, Any]
    layout: Layout
    plan: Plan


@dataclass(frozen=True)
class AdaptedWeight:
    """A weight of the small base: its line and index there, its name and the template of that, and the names
    that it and those that extend it have in the grown base."""

    line: Line
    index: Index
    name: str
    template: str
    heirs: tuple[str, ...]


Table = Mapping[str, list[AdaptedWeight]]  # by old name; what stands under one name differs in what it needs


@dataclass(frozen=True)
class Adapted:
    """An adapter bound to its base.

    `factors` are its pairs of matrices by the lines that they stand beside, `whole` the base's lines that it
    holds itself, `stored` all tensors of both, `carried` the names of those that no growth reaches.
    `modules` has every module that there could be, `adapted` those with matrices, `parameters` the weights
    with matrices and no module of their own: each grown name with that of its origin.
    """

    factors: tuple[Factors, ...]
    whole: tuple[Line, ...]
    stored: tuple[Stored, ...]
    sizes: Sizes
    carried: tuple[str, ...]
    modules: Mapping[str, str]
    adapted: Mapping[str, str]
    parameters: Mapping[str, str]


def bound(headers: Mapping[str, Header], config: Mapping[str, Any], base: GrownBase) -> Adapted:
    """An adapter's tensors by the base's lines.

    Raises `CheckpointError` for a tensor that no line of the base names, one whose shape is that of another
    base, and where layers of the base lack the matrices that the config gives all of them.
    """
    stored = {name: name.removeprefix(BEFORE) for name in headers}
    renames = renames_in(base.layout, stored.values())
    bare = {name: renamed(renames, own) for name, own in stored.items()}
    found = _Binding(base, _table(base, bare.values()), names(config.get("target_parameters")), headers, bare)
    for name in headers:
        found.add_(name)
    _check_layers(found, config)
    return found.done()


def _check_layers(found: _Binding, config: Mapping[str, Any]) -> None:
    """What is adapted in one layer is so in all that the config means: PEFT makes matrices for each, so where
    some lack them, the base that the adapter was trained on had fewer layers than the one that has grown."""
    weights = [weight for each in found.table.values() for weight in each]
    origins = {*found.adapted.values(), *found.parameters.values()}
    paired = {weight.name for weight in weights if {weight.name, _module(weight.name)} & origins}
    templates = {weight.template for weight in weights if weight.name in paired}
    for weight in weights:
        if weight.template not in templates or weight.name in paired:
            continue
        if targeted(config, _module(weight.name)) or adapted_parameter(config, weight.name):
            raise CheckpointError(
                f"the adapter has no matrices for {_module(weight.name)} of the model that {found.base.name}"
                f" was grown from, and its config means that too, so it was trained on another: {IN_TURN}"
            )


def _table(base: GrownBase, bare: Iterable[str]) -> Table:
    """Every weight that a base of this layout may have, under the prefix that most of these names fit."""
    wanted = {_plain(name) for name in bare}

    def count(table: Table) -> int:
        known = table.keys() | {name.rpartition(".")[0] for name in table}
        return len(wanted & known)

    return max((_under(base, prefix) for prefix in base.layout.prefixes), key=count)


def _plain(name: str) -> str:
    """The name of a tensor, or of a module with matrices, as it is without PEFT."""
    matrix = matrix_of(name)
    return (name if matrix is None else matrix[0]).replace(WRAPPED, "")


def _under(base: GrownBase, prefix: str) -> Table:
    applies = applying(base.layout, base.config)
    old, new = base.plan.source, base.plan.target
    found: dict[str, list[AdaptedWeight]] = {}
    for line in (line for line in base.layout.lines if line.slot.stored):
        axes = name_axes(line.name)
        heirs: dict[Index, list[str]] = {}
        for index in new.indices(axes) if all(map(new.has, axes)) else ():
            if applies(line.slot, index):
                before = origin(base.plan, Block(line.slot.name, index, ())).index
                heirs.setdefault(before, []).append(name_of(line, prefix, index, new))
        template = line.name if line.slot.head else prefix + line.name
        for index, made in heirs.items():
            name = name_of(line, prefix, index, old)
            found.setdefault(name, []).append(AdaptedWeight(line, index, name, template, tuple(made)))
    return found


@dataclass
class _Binding:
    """Gathers what an adapter's tensors are, name by name: `bare` has them as they are called today."""

    base: GrownBase
    table: Table
    targeted: tuple[str, ...]
    headers: Mapping[str, Header]
    bare: Mapping[str, str]
    factors: dict[Factors, None] = field(default_factory=dict[Factors, None])
    whole: dict[Line, None] = field(default_factory=dict[Line, None])
    stored: list[Stored] = field(default_factory=list[Stored])
    carried: list[str] = field(default_factory=list[str])
    adapted: dict[str, str] = field(default_factory=dict[str, str])
    parameters: dict[str, str] = field(default_factory=dict[str, str])
    inferred: dict[str, int] = field(default_factory=dict[str, int])

    @cached_property
    def children(self) -> Mapping[str, list[str]]:
        """The weights of each module, in the model's order."""
        found: dict[str, list[str]] = {}
        for name in self.table:
            found.setdefault(_module(name), []).append(name)
        return found

    def add_(self, name: str) -> None:
        """One tensor of the adapter's file."""
        bare = self.bare[name]
        matrix = matrix_of(bare)
        if self.base.layout.carried and bare.startswith(self.base.layout.carried):
            self.carried.append(name)
            self.adapted |= {matrix[0]: matrix[0]} if matrix is not None else {}
        elif matrix is None:
            self._add_whole_(name)
        else:
            other = self._other(name, matrix[1])
            if matrix[1] == "A":
                self._add_pair_(name, other, matrix[0])

    def done(self) -> Adapted:
        """All that was found."""
        weights = [weight for found in self.table.values() for weight in found]
        return Adapted(
            tuple(self.factors),
            tuple(self.whole),
            tuple(self.stored),
            Sizes({**self.inferred, **self.base.plan.source.values}, self.base.plan.source.sites),
            tuple(self.carried),
            {_module(heir): _module(weight.name) for weight in weights for heir in weight.heirs},
            self.adapted,
            self.parameters,
        )

    def _other(self, name: str, side: str) -> str:
        """The name of a pair's other matrix, which must be there."""
        end = next(end for end in MATRICES if name.endswith(f".{end}"))
        found = name.removesuffix(end) + end.replace(f"_{side}", f"_{OTHER[side]}")
        if found not in self.headers:
            raise CheckpointError(f"{found} is missing from the adapter, which has {name}: fetch it again")
        return found

    def _add_pair_(self, a: str, b: str, path: str) -> None:
        first, second = self.headers[a], self.headers[b]
        single = f"{path}.weight" in self.table
        wanted = f"{path}.weight" if single else self._parameter(a, path)
        weight = self._fitting(a, wanted, lambda line: self._rank(line, first, second) > 0)
        stem = path if single else path.replace(WRAPPED, "")
        template = _module(weight.template)
        made = Factors(
            weight.line,
            self._rank(weight.line, first, second),
            (template + self.bare[a].removeprefix(stem), template + self.bare[b].removeprefix(stem)),
            len(second.shape),
        )
        self.factors[made] = None
        for name, line in zip((a, b), made.lines(), strict=True):
            self.stored.append(Stored(self.bare[name], line, weight.index, self.headers[name], name))
        if single:
            self.adapted |= {_module(heir): _module(weight.name) for heir in weight.heirs}
        else:
            self.parameters |= dict.fromkeys(weight.heirs, weight.name)

    def _parameter(self, name: str, path: str) -> str:
        """The weight that has matrices without a module of its own: PEFT wraps the module that holds it, once
        for each of its weights, the first one innermost."""
        depth = path.count(WRAPPED)
        children = self.children.get(path.replace(WRAPPED, ""), ())
        wrapped = [each for each in children if any(each.endswith(f".{end}") for end in self.targeted)]
        if depth >= len(wrapped):
            raise CheckpointError(self._strange(name))
        return wrapped[-1 - depth]

    def _add_whole_(self, name: str) -> None:
        header, bare = self.headers[name], self.bare[name]
        plain = bare.replace(WRAPPED, "")
        if plain not in self.table:
            raise CheckpointError(self._strange(name))
        weight = self._fitting(name, plain, lambda line: self._shaped(line, header.shape))
        self._infer_(weight.line, header.shape)
        self.whole[weight.line] = None
        last = weight.template.rpartition(".")[2]
        template = f"{_module(weight.template)}{WRAPPED if bare != plain else ''}.{last}"
        slots = tuple(replace(slot, tied="", shared=False) for slot in weight.line.slots)
        line = replace(weight.line, name=template, slots=slots)
        self.stored.append(Stored(bare, line, weight.index, header, name))

    def _strange(self, name: str) -> str:
        return (
            f"{name} is in the adapter, and no weight of {self.base.layout.family!r} stands there:"
            f" {self.base.name} was grown from another model than the one that the adapter was trained on"
        )

    def _fitting(self, name: str, wanted: str, fits: Callable[[Line], bool]) -> AdaptedWeight:
        """The weight of this name that a tensor fits."""
        found = next((weight for weight in self.table[wanted] if fits(weight.line)), None)
        if found is None:
            raise CheckpointError(
                f"{name} has shape {list(self.headers[name].shape)}, which does not fit {wanted} of the model"
                f" that {self.base.name} was grown from: {IN_TURN}"
            )
        return found

    def _rank(self, line: Line, a: Header, b: Header) -> int:
        """The rank of a pair beside the weights of a line; 0 where the two don't fit there."""
        blocks = prod(map(self.base.plan.source.of, line.parsed.index))
        rank, rest = divmod(a.shape[0], blocks)
        if rest or not rank or len(b.shape) < 2:
            return 0
        made = Factors(line, rank, ("", ""), len(b.shape)).lines()
        fit = all(self._shaped(own, h.shape) for own, h in zip(made, (a, b), strict=True))
        return rank if fit else 0

    def _shaped(self, line: Line, shape: tuple[int, ...]) -> bool:
        """Whether a line's tensors have this shape; an axis that no config states may have any size."""
        sizes, dims = self.base.plan.source, line.parsed.dims
        if len(dims) != len(shape):
            return False
        known = [all(axis.isdigit() or sizes.has(axis) for axis in _axes(dim.factors)) for dim in dims]
        open_ = [_free(line, self.base.layout, d) for d in range(len(dims))]
        if not all(one or other for one, other in zip(known, open_, strict=True)):
            return False
        wanted = line.parsed.shape(lambda axis: sizes.of(axis) if sizes.has(axis) else 1)
        return all(n == m or not k for n, m, k in zip(shape, wanted, known, strict=True))

    def _infer_(self, line: Line, shape: tuple[int, ...]) -> None:
        """The sizes of axes that the base's file does not have: labels, say."""
        for d, (dim, n) in enumerate(zip(line.parsed.dims, shape, strict=True)):
            axis = str(dim.factors[0])
            if _free(line, self.base.layout, d) and not self.base.plan.source.has(axis):
                self.inferred[axis] = n


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _axes(factors: Iterable[str | Sum]) -> tuple[str, ...]:
    found: list[str] = []
    for factor in factors:
        found += [a for _, axes in factor.parts for a in axes] if isinstance(factor, Sum) else [factor]
    return tuple(found)


def _free(line: Line, layout: Layout, d: int) -> bool:
    """Whether a dim is one axis whose size no config states."""
    factors = line.parsed.dims[d].factors
    return len(factors) == 1 and isinstance(factors[0], str) and factors[0] not in layout.axes
