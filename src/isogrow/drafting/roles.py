"""Roles: what each module of a layer does, told from what it reads and writes.

A module whose input is the residual, or a norm of it, reads; one whose input is what attention made, or a
product of what others read, writes. A norm stands before a branch, on the residual, on what a branch writes,
or on what a projection gives. The residual's states tell branches in parallel from others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from isogrow.drafting.attentions import order
from isogrow.drafting.norms import Measured, measured
from isogrow.drafting.tracing import Attended, Call, Trace, mark
from isogrow.errors import FamilyError

Kind = Literal[
    "reads", "writes", "pre", "post", "branch", "inner", "routes", "experts", "sinks", "kept", "loose"
]
CLOSE = 1e-9


@dataclass(frozen=True)
class Role:
    """What one module does. `path` is as in the model, a layer's from the layer on.

    `state` is how often the residual was written before it acts; `of` the module whose output an inner norm
    normalises, or whose output a branch norm does; `feeds` the parts of an attention that it gives. What has
    no role that is known is "kept": it stays what it is. A layer whose output is no sum of what projections
    give is "loose" itself. `reads` marks what a module was given.
    """

    path: str
    module: nn.Module
    kind: Kind
    state: int
    norm: Measured | None = None
    of: str = ""
    feeds: tuple[str, ...] = ()
    reads: str = ""

    @property
    def plain(self) -> bool:
        """Whether it is a projection."""
        return isinstance(self.module, nn.Linear | Conv1D)

    @property
    def transposed(self) -> bool:
        """Whether its weight is stored consumed × produced."""
        return isinstance(self.module, Conv1D)

    @property
    def shape(self) -> tuple[int, int]:
        """(produced, consumed) of a projection."""
        stored = self.module.get_parameter("weight").shape
        return (stored[1], stored[0]) if self.transposed else (stored[0], stored[1])


def layer_roles(trace: Trace, layer: int, whole: bool = True) -> tuple[Role, ...]:
    """The roles of one layer's modules, in the order in which rows of a layout stand.

    Raises `FamilyError` for a module that has none that is known; unless all must have one (`whole`), it is
    kept as it is instead.
    """
    start = f"{trace.layers}.{layer}."
    calls = [replace(call, path=call.path.removeprefix(start)) for call in trace.within(layer)]
    attended = trace.attention(layer)
    reading = _Reading(trace.inputs[layer], trace.outputs[layer], attended, start.count("."), whole)
    for call in calls:
        reading.see(call)
    reading.end()
    reading.keep_rest(trace.model.get_submodule(start[:-1]))
    return tuple(_ordered([_fed(role, calls, attended) for role in reading.roles]))


class _Reading:
    """Goes through a layer's calls in their order, and tells each one's role."""

    def __init__(
        self, start: Tensor, end: Tensor, attended: Sequence[Attended], before: int, whole: bool
    ) -> None:
        self.width, self.last, self.whole = start.shape[-1], end, whole
        self.attentions = {each.path.split(".", before)[-1] for each in attended}
        self.sunk = 0
        self.loose = False  # whether something else than a projection writes to the residual
        self.roles: list[Role] = []
        self.known: dict[str, tuple[str, str]] = {mark(start): ("stream", "")}
        self.known |= {mark(each.made): ("attended", each.path) for each in attended}
        self.stream, self.state = start, 0
        self.terms: list[tuple[str, Tensor]] = []
        self.normed: list[tuple[int, Tensor, Tensor]] = []  # norms of the residual since it was last written

    def see(self, call: Call) -> None:
        if self.whole:
            self._see(call)
            return
        try:
            self._see(call)
        except FamilyError:
            self._keep(call)

    def _keep(self, call: Call) -> None:
        """A module without a role: what it gives may be written to the residual."""
        self.roles.append(Role(call.path, call.module, "kept", self.state, reads=mark(call.given)))
        if call.made.shape == self.stream.shape and mark(call.made) not in self.known:
            self.known[mark(call.made)] = ("kept", call.path)
            self.terms.append((call.path, call.made))

    def keep_rest(self, layer: nn.Module) -> None:
        """Every parameter of a layer belongs to a module with a role; or else that module is kept, too."""
        if self.whole:
            _check_whole(layer, self.roles)
            return
        if self.loose:
            self.roles.append(Role("", layer, "loose", self.state))
        there = {role.path for role in self.roles if role.kind != "loose"}
        for path, module in layer.named_modules():
            if path not in there and any(True for _ in module.parameters(recurse=False)):
                self.roles.append(Role(path, module, "kept", self.state))

    def _see(self, call: Call) -> None:
        kind, source = self.known.get(mark(call.given), ("", ""))
        if sinks_of(call.module) and call.path in self.attentions:
            self.roles.append(Role(call.path, call.module, "sinks", self.sunk))
            return
        if mixes(call.module):
            self._mixture(call, source)
            return
        if kind in ("stream", "norm") and routes(call.module, self.width):
            self.roles.append(Role(call.path, call.module, "routes", self.state, of=source))
            return
        if isinstance(call.module, nn.Linear | Conv1D):
            self._projection(call, kind, source)
            return
        norm = measured(call.module, call.given.shape[-1], tuple(call.given.shape[1:-1]))
        if norm is None:
            name = type(call.module).__name__
            raise FamilyError(f"{call.path} is a {name}, which is no projection and no norm")
        self._norm(call, norm, kind, source)

    def end(self) -> None:
        """The layer's output is the last state."""
        settled = self._settle_(self.last)
        self.loose |= not settled

    def _mixture(self, call: Call, source: str) -> None:
        """Stacked experts, which read and write."""
        if call.made.numel() != self.last.numel():
            raise FamilyError(f"{call.path} holds stacked experts, and does not write to the residual itself")
        self.roles.append(Role(call.path, call.module, "experts", self.state, of=source))
        self.known.setdefault(mark(call.made), ("writer", call.path))
        self.terms.append((call.path, call.made.reshape(self.last.shape)))

    def _projection(self, call: Call, kind: str, source: str) -> None:
        if not kind and call.given.shape[-1] == self.width and self.terms and self._settle_(call.given):
            kind = "stream"
        reads = kind in ("stream", "norm")
        if kind in ("linear", "inner"):
            raise FamilyError(f"{call.path} reads what {source} gives, and no role is known for such a pair")
        if not reads and call.made.shape[-1] != self.width:
            raise FamilyError(f"{call.path} reads neither the residual nor a norm of it, nor writes to it")
        fed = ("attended",) if kind == "attended" else ()
        does = "reads" if reads else "writes"
        given = mark(call.given)
        self.roles.append(Role(call.path, call.module, does, self.state, None, source, fed, given))
        self.known.setdefault(mark(call.made), ("linear" if reads else "writer", call.path))
        if kind == "attended":
            self.sunk = self.state
        if not reads:
            self.terms.append((call.path, call.made))

    def _norm(self, call: Call, norm: Measured, kind: str, source: str) -> None:
        if kind == "writer":
            self.roles.append(Role(call.path, call.module, "branch", self.state, norm, of=source))
            self.terms = [(p, call.made if p == source else t) for p, t in self.terms]
            self.known.setdefault(mark(call.made), ("writer", call.path))
        elif kind in ("linear", "part"):
            self.roles.append(Role(call.path, call.module, "inner", self.state, norm, of=source))
            self.known.setdefault(mark(call.made), ("inner", call.path))
        elif kind == "stream" or (call.given.shape[-1] == self.width and self._settle_(call.given)):
            self.roles.append(Role(call.path, call.module, "pre", self.state, norm))
            self.normed.append((len(self.roles) - 1, call.given, call.made))
            self.known.setdefault(mark(call.made), ("norm", call.path))
        else:
            # a part of what a fused projection gives, or something else
            self.roles.append(Role(call.path, call.module, "inner", self.state, norm))
            self.known.setdefault(mark(call.made), ("inner", call.path))
            if not self.whole and call.made.shape == self.stream.shape:
                self.terms.append((call.path, call.made))

    def _settle_(self, state: Tensor) -> bool:
        """Whether this is the residual's next state: what it was, and a multiple of what was written.

        If so it is taken as that, and norms since the last one that stand on the residual are told.
        """
        columns = [self.stream, *(made for _, _, made in self.normed), *(term for _, term in self.terms)]
        found = _combined(state, columns)
        if found is None and not (self._weighed() and state.shape == self.stream.shape):
            return False
        found = found or [1.0] * len(columns[:1]) + [0.0] * (len(columns) - 1)
        for (at, _, _), share in zip(self.normed, found[1 : 1 + len(self.normed)], strict=True):
            if abs(share) > CLOSE:
                self.roles[at] = replace(self.roles[at], kind="post")
        if not self.whole:
            self._check_terms(found[1 + len(self.normed) :])
        self.stream, self.terms, self.normed = state, [], []
        self.state += 1
        self.known[mark(state)] = ("stream", "")
        return True

    def _check_terms(self, shares: Sequence[float]) -> None:
        """What did not write to the residual after all is kept; what else writes to it is told."""
        for (path, _), share in zip(self.terms, shares, strict=True):
            for at, role in enumerate(self.roles):
                if role.path == path and role.kind in ("writes", "kept", "inner"):
                    writes, norm = abs(share) > CLOSE, role.kind == "inner"
                    kind = "kept" if not writes else "branch" if norm else "writes" if role.plain else "kept"
                    self.roles[at] = replace(role, kind=kind)
                    self.loose |= writes and kind == "kept"

    def _weighed(self) -> bool:
        """Whether experts wrote, whose shared one a gate may weigh token by token: no sum then."""
        paths = {path for path, _ in self.terms}
        return any(role.kind == "experts" and role.path in paths for role in self.roles)


def sinks_of(module: nn.Module) -> str:
    """The name of a module's one number for each head, beside its projections; "" if it has none."""
    own = [(name, value.dim()) for name, value in module.named_parameters(recurse=False)]
    return own[0][0] if len(own) == 1 and own[0][1] == 1 and "sink" in own[0][0] else ""


def mixes(module: nn.Module) -> bool:
    """Whether a module holds stacked experts."""
    return sum(value.dim() == 3 for value in module.parameters(recurse=False)) == 2


def routes(module: nn.Module, width: int) -> bool:
    """Whether a module is a router: rows for experts that read the residual, and no plain projection."""
    own = dict(module.named_parameters(recurse=False)).get("weight")
    plain = type(module) in (nn.Linear, Conv1D)
    return (
        own is not None
        and own.dim() == 2
        and own.shape[1] == width
        and not plain
        and "Router" in type(module).__name__
    )


def _combined(state: Tensor, columns: Sequence[Tensor]) -> list[float] | None:
    """The numbers by which these sum up to a state; None if none do."""
    if any(column.numel() != state.numel() for column in columns):
        return None
    matrix = torch.stack([column.flatten() for column in columns], dim=1)
    wanted = state.flatten()[:, None]
    found = torch.linalg.lstsq(matrix, wanted).solution
    if not torch.allclose(matrix @ found, wanted, rtol=0, atol=CLOSE * float(wanted.abs().max())):
        return None
    return [float(value) for value in found[:, 0]]


def _ordered(roles: Sequence[Role]) -> Iterator[Role]:
    """Within a state what reads before what writes; else as they run."""
    after: dict[str, int] = {}
    for role in roles:
        late = role.kind in ("writes", "branch")
        after[role.path] = 2 * role.state + late
    yield from sorted(roles, key=lambda role: after[role.path])


def _fed(role: Role, calls: Sequence[Call], attended: Sequence[Attended]) -> Role:
    """The role with the parts of an attention that its output is; at the first token nothing has turned."""
    if role.kind not in ("reads", "inner") or not attended:
        return role
    made = next(call.made for call in calls if call.path == role.path)
    return replace(role, feeds=feeds(by_token(made, attended[0].query.shape[2])[0], attended[0]))


def by_token(made: Tensor, tokens: int) -> Tensor:
    """An output as rows × tokens × …, whether heads come before the tokens or after them."""
    return made.transpose(1, 2) if made.dim() == 4 and made.shape[1] != tokens else made


def feeds(made: Tensor, attended: Attended) -> tuple[str, ...]:
    """The parts of an attention that are in an output (tokens × …): those whose first token's numbers are."""
    parts = (("q", attended.query), ("k", attended.key), ("v", attended.value))
    return tuple(name for name, part in parts if order(made[0], part[0, :, 0]) is not None)


def _check_whole(layer: nn.Module, roles: Sequence[Role]) -> None:
    """Every parameter of a layer belongs to a module with a role."""
    held = {
        f"{role.path}.{name}" for role in roles for name, _ in role.module.named_parameters(recurse=False)
    }
    for name, _ in layer.named_parameters():
        if name not in held:
            owner = layer.get_submodule(name.rpartition(".")[0])
            raise FamilyError(f"{name} of a {type(owner).__name__} is no projection's and no norm's")
