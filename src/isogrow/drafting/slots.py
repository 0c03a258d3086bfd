"""From roles to slots: what each module of a layer is, in the words that rules and laws read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from isogrow.drafting.roles import Role
from isogrow.errors import FamilyError

# What projections of an attention are called, where what they feed was not seen.
NAMES: Mapping[tuple[str, ...], str] = {
    ("q",): r"q|q_proj|query|q_lin|wq|q_attn|query_proj",
    ("k",): r"k|k_proj|key|k_lin|wk|key_proj",
    ("v",): r"v|v_proj|value|v_lin|wv|value_proj",
    ("q", "k", "v"): r"qkv|qkv_proj|query_key_value|c_attn|Wqkv|in_proj",
    ("k", "v"): r"kv|kv_proj|key_value",
}
ATTENDS = r"o_proj|out_proj|wo|o|dense_out"  # what an attention's output projection is called
SINKS = "attn.sinks"
KEPT = "kept"  # what stays as it is
WRITES = "own."  # what writes to the residual, by its path
UNTOLD = ("branch.", "post.")  # norms of branches that were not told, by their paths
SHARED = re.compile(r"shared")
ROUTER = re.compile(r"(^|\.)(router|gate)(\.|$)")
GATE = re.compile(r"gate|w1$|wi_0$|linear_1$")


@dataclass(frozen=True)
class PlacedModule:
    """A module and its slot; a fused one's parts are in `parts`. `over` is the slot that a norm is of."""

    role: Role
    slot: str
    parts: tuple[str, ...] = ()
    over: str = ""


def placed(roles: Sequence[Role], whole: bool = True) -> tuple[PlacedModule, ...]:
    """The slots of one layer's modules. Raises `FamilyError` for modules beside an attention and an MLP,
    unless all must be told (`whole`): what is not is kept."""
    return _wholly(roles) if whole else tuple(_partly(roles))


def _partly(roles: Sequence[Role]) -> Iterator[PlacedModule]:
    """The MLP or mixture of a layer, and what else writes to its residual; all else is kept."""
    reads = [role for role in roles if role.kind == "reads"]
    writes = [role for role in roles if role.kind == "writes"]
    mixture = dict(_mixture(roles, reads, writes))
    named = {**mixture, **_found([role for role in roles if role.path not in mixture])}
    for role in roles:
        if role.path in named and role.kind != "loose":
            yield PlacedModule(role, *named[role.path])
        elif role.kind == "writes":
            yield PlacedModule(role, f"{WRITES}{role.path}")
        elif role.kind in ("branch", "post"):
            yield PlacedModule(role, f"{role.kind}.{role.path}")
        else:
            yield PlacedModule(role, KEPT)


def _found(roles: Sequence[Role]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The slots of a layer's MLP: the one pair, or three, of projections of which one reads what the others
    give, as far as their sizes say. Its proof says whether it is one."""
    found: list[tuple[bool, dict[str, tuple[str, tuple[str, ...]]]]] = []
    for down in (role for role in roles if role.kind == "writes" and "attended" not in role.feeds):
        made, width = down.shape[1], down.shape[0]
        up = [role for role in roles if role.plain and role.shape in ((made, width), (2 * made, width))]
        up = [role for role in up if role is not down and not _attends(role)]
        if not _attends(down) and 1 <= len(up) <= 2 and len({role.reads for role in up}) == 1:
            near = all(_owner(role.path) == _owner(down.path) for role in up)
            found.append((near, {down.path: ("mlp.down", ()), **_mlp(up, down)}))
    close = [slots for near, slots in found if near] or [slots for _, slots in found]
    return close[0] if len(close) == 1 else {}


def _owner(path: str) -> str:
    return path.rpartition(".")[0]


def _attends(role: Role) -> bool:
    """Whether a projection is called like one of an attention."""
    name = role.path.rpartition(".")[2]
    return bool(role.feeds) or any(re.fullmatch(words, name) for words in (*NAMES.values(), ATTENDS))


def _wholly(roles: Sequence[Role]) -> tuple[PlacedModule, ...]:
    parts = {role.path: _parts(role, roles) for role in roles}
    attention = [role for role in roles if role.kind == "reads" and parts[role.path]]
    reads = [role for role in roles if role.kind == "reads" and not parts[role.path]]
    writes = [role for role in roles if role.kind == "writes"]
    mixture = dict(_mixture(roles, reads, writes))
    reads = [role for role in reads if role.path not in mixture]
    writes = [role for role in writes if role.path not in mixture]
    _check_attention([parts[role.path] for role in attention])
    out = _output(writes, attention)
    down = [role for role in writes if role is not out]
    named = {role.path: _attention_slot(parts[role.path]) for role in attention}
    named |= {out.path: ("attn.o", ()), **mixture}
    if mixture and not down and not reads:
        return tuple(_all(roles, named, parts))
    if len(down) != 1 or not 1 <= len(reads) <= 2:
        names = ", ".join(role.path for role in (*reads, *down))
        raise FamilyError(f"beside its attention a layer has {names or 'nothing'}, which is no single MLP")
    named |= {down[0].path: ("mlp.down", ())}
    named |= _mlp(reads, down[0])
    return tuple(_all(roles, named, parts))


def _mixture(
    roles: Sequence[Role], reads: Sequence[Role], writes: Sequence[Role]
) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    """The slots of a mixture of experts: router, stacked experts, shared experts and their gate."""
    experts = [role for role in roles if role.kind == "experts"]
    if not experts:
        return
    if len(experts) > 1:
        raise FamilyError(f"a layer has {len(experts)} modules of stacked experts")
    yield experts[0].path, ("experts", ())
    yield from ((role.path, ("router", ())) for role in roles if role.kind == "routes")
    shared = [role for role in reads if SHARED.search(role.path)]
    for role in (role for role in reads if role not in shared):
        if ROUTER.search(role.path) and all(other.kind != "routes" for other in roles):
            yield role.path, ("router", ())
    for role in (role for role in shared if role.shape[0] == 1):
        yield role.path, ("choice", ())
    wide = [role for role in shared if role.shape[0] != 1]
    down = [role for role in writes if SHARED.search(role.path)]
    if len(down) == 1 and wide:
        yield down[0].path, ("shared.down", ())
        yield from (
            (path, (slot.replace("mlp.", "shared."), parts))
            for path, (slot, parts) in _mlp(wide, down[0]).items()
        )


def _parts(role: Role, roles: Sequence[Role]) -> tuple[str, ...]:
    """The parts of an attention that a projection gives, by itself or through a norm of it."""
    if role.kind != "reads":
        return role.feeds
    through = {
        part for other in roles if other.kind == "inner" and other.of == role.path for part in other.feeds
    }
    found = tuple(part for part in ("q", "k", "v") if part in role.feeds or part in through)
    if found and len(found) < 3 and role.feeds != found and not through:
        return found
    last = role.path.rpartition(".")[2]
    by_name = next((parts for parts, words in NAMES.items() if re.fullmatch(words, last)), ())
    return found if len(found) >= len(by_name) else by_name


def _check_attention(parts: Sequence[tuple[str, ...]]) -> None:
    given = sorted(part for each in parts for part in each)
    if given != ["k", "q", "v"]:
        raise FamilyError(
            f"the projections of a layer's attention give {', '.join(given) or 'nothing'}, not q, k and v"
        )


def _output(writes: Sequence[Role], attention: Sequence[Role]) -> Role:
    """The projection that reads what attention made: it was seen, or it stands beside the queries'."""
    seen = [role for role in writes if role.of and "attended" in role.feeds]
    if len(seen) == 1:
        return seen[0]
    owner = attention[0].path.rpartition(".")[0]
    beside = [role for role in writes if owner and role.path.startswith(owner.partition(".")[0])]
    if len(beside) != 1:
        raise FamilyError(f"which of {', '.join(r.path for r in writes)} reads the attention is not told")
    return beside[0]


def _attention_slot(parts: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    return ("attn.*", parts) if len(parts) > 1 else (f"attn.{''.join(parts)}", ())


def _mlp(reads: Sequence[Role], down: Role) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The slots of what an MLP reads with: one projection, two, or two in one."""
    if len(reads) == 1:
        twice = reads[0].shape[0] == 2 * down.shape[1]
        return {reads[0].path: ("mlp.*", ("gate", "up")) if twice else ("mlp.up", ())}
    gate = next((role for role in reads if GATE.search(role.path.rpartition(".")[2])), reads[0])
    return {role.path: ("mlp.gate" if role is gate else "mlp.up", ()) for role in reads}


def _all(
    roles: Sequence[Role],
    named: Mapping[str, tuple[str, tuple[str, ...]]],
    parts: Mapping[str, tuple[str, ...]],
) -> Iterator[PlacedModule]:
    """Every module with its slot, norms too, in the order of the roles."""
    slots = {path: slot for path, (slot, _) in named.items()}
    last = ""
    for role in roles:
        if role.path in named:
            last = _branch(slots[role.path]) if role.kind in ("writes", "experts") else last
            yield PlacedModule(role, *named[role.path])
        elif role.kind == "sinks":
            yield PlacedModule(role, SINKS)
        elif role.kind == "branch":
            yield PlacedModule(role, f"{_branch(slots[role.of])}_after")
        elif role.kind == "post":
            yield PlacedModule(role, f"{last}_after" if last else "before")
        elif role.kind == "inner":
            yield _inner(role, parts, slots)
        else:
            yield PlacedModule(role, _read_by(role, roles, slots))


def _branch(slot: str) -> str:
    """The branch that a slot is of: attention, or what stands where an MLP does."""
    return "attn" if slot.startswith("attn") else "mlp"


def _inner(role: Role, parts: Mapping[str, tuple[str, ...]], slots: Mapping[str, str]) -> PlacedModule:
    part = role.feeds[0] if len(role.feeds) == 1 else next(iter(parts.get(role.of, ())), "")
    if len(role.feeds) != 1 and slots.get(role.of, "") != f"attn.{part}":
        raise FamilyError(f"{role.path} is a norm of something that is no query and no key")
    return PlacedModule(role, f"attn.{part}_norm", over=f"attn.{part}")


def _read_by(norm: Role, roles: Sequence[Role], slots: Mapping[str, str]) -> str:
    """A norm's slot by the branches that read it: both, in a block in parallel."""
    readers = {_branch(slots[role.path]) for role in roles if role.of == norm.path and role.path in slots}
    if not readers:
        raise FamilyError(f"nothing that is known reads the norm {norm.path}")
    return f"{readers.pop()}_norm" if len(readers) == 1 else "norm"
