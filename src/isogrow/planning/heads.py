"""Heads that are asked for, as axes of a model: key/value heads and groups, where keys are fewer."""

from __future__ import annotations

from isogrow.errors import SizeError
from isogrow.planning.nearest import holds, ruled
from isogrow.plans.expansions import Expansion, Size, target
from isogrow.plans.words import spelled
from isogrow.rules.subject import Subject


def meant(now: Subject, expansion: Expansion) -> dict[str, Size]:
    """Requests by axis: query heads become groups where heads are grouped."""
    sizes = expansion.sizes()
    if expansion.stack or ("kv_heads" not in sizes and "heads" not in sizes):
        return dict(sizes)
    if not now.sizes.has("kv_heads"):
        if sizes.get("kv_heads") is not None:
            raise SizeError(
                f"kv_heads is no axis of {now.layout.family!r}, where {_keyed(now)}: give heads alone"
            )
        return {"heads": sizes["heads"]}
    return grouped(now, expansion)


def grouped(now: Subject, expansion: Expansion, of: str = "") -> dict[str, Size]:
    """Key/value heads and groups (`of` a stack, by the start of its axes' names) for the heads asked for."""
    sizes, stack = expansion.sizes(), expansion.stack
    kv, group = now.sizes.of(f"{of}kv_heads"), now.sizes.of(f"{of}group")
    new_kv = target(sizes.get("kv_heads", kv), kv, spelled(stack, "kv_heads"))
    asked = "heads" in sizes
    heads = target(sizes["heads"], kv * group, spelled(stack, "heads")) if asked else new_kv * group
    if heads % new_kv or heads // new_kv < group:
        raise SizeError(
            f"{spelled(stack, 'heads')}={heads} can't be had with {spelled(stack, 'kv_heads')}={new_kv}:"
            " every key/value head has the same number of query heads,"
            f" at least {group}{_whole_groups(now, new_kv, heads, of, stack)}"
        )
    return {f"{of}kv_heads": new_kv, f"{of}group": heads // new_kv}


def _keyed(now: Subject) -> str:
    """Whose the keys and values are, where they are not grouped."""
    keys = (now.slots[a.key] for a in now.layout.attentions if a.key in now.slots)
    own = any("heads" in key.produced for key in keys)
    return "every head has keys and values of its own" if own else "all heads share their keys and values"


def _whole_groups(now: Subject, kv_heads: int, heads: int, of: str, stack: str) -> str:
    """Numbers of heads near these that can be had, as an advice; none where there are none."""
    least = now.sizes.of(f"{of}group")
    first = max(least, -(-heads // kv_heads))

    def fits(kv: int, group: int) -> bool:
        grown = {a: n for a, n in ((f"{of}kv_heads", kv), (f"{of}group", group)) if n != now.sizes.of(a)}
        return holds(now.layout, now.config, {**now.sizes.values, **grown}) and ruled(now, grown)

    group = next((g for g in range(first, 4 * first) if fits(kv_heads, g)), 0)
    kv = heads // least
    with_it = heads % least == 0 and kv >= kv_heads and fits(kv, least)
    told = [f"{spelled(stack, 'heads')}={kv_heads * group}"] if group else []
    told += [f"{spelled(stack, 'kv_heads')}={kv} with it"] if with_it else []
    return f"; give {', or '.join(told)}" if told else ""
