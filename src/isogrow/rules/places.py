"""Where old channels go on a grown axis, and which old channel each new one extends."""

from __future__ import annotations

from isogrow.plans.plan import OLD, Constant, Entry, Free, Init, Old, Place, Rewrite

NEW, MORE = "new", "more"


def append(old: int, new: int) -> tuple[Place, ...]:
    """Old channels stay; new ones follow. The first round extends each old channel at most once
    ("new"); what goes beyond is "more", since two copies of one channel would stay alike for ever."""
    found = [Place(0, old, 0)]
    start = old
    while start < new:
        count = min(old, new - start)
        found.append(Place(start, count, 0, NEW if start == old else MORE))
        start += count
    return tuple(found)


def prepend(old: int, new: int) -> tuple[Place, ...]:
    """Old channels come last, and new ones before them."""
    count = new - old
    runs = ((start, min(old, count - start)) for start in range(0, count, old))
    found = [Place(start, length, 0, MORE if start else NEW) for start, length in runs]
    return (*found, Place(count, old, 0))


def copies(old: int, new: int) -> tuple[Place, ...]:
    """Old channels stay, and are copied whole: `copy1`, `copy2`, ... (`new` is a multiple of `old`)."""
    labels = [OLD, *(f"copy{i}" for i in range(1, new // old))]
    return tuple(Place(i * old, old, 0, label) for i, label in enumerate(labels))


def free(init: Init, old: Old | None = None, center: bool = False) -> Rewrite:
    """Entries that the laws leave to the user, beside old ones that are kept or scaled."""
    old = old or Old()
    drawn = Free(init, center) if init.kind != "copy" else Free(Init("normal", init.std), center)
    first: Entry = old if init.kind == "copy" else drawn
    return {OLD: old, NEW: first, MORE: drawn}


def constant(value: float, old: Old | None = None) -> Rewrite:
    """New entries of one value (0: the switch), beside old ones that are kept or scaled."""
    return {OLD: old or Old(), NEW: Constant(value), MORE: Constant(value)}


def only(rewrite: Rewrite, places: tuple[Place, ...]) -> Rewrite:
    """The part of a rewrite that these places use."""
    labels = {place.label for place in places}
    return {label: entry for label, entry in rewrite.items() if label in labels}
