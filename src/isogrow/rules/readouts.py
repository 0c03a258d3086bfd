"""Where a model is read between its layers (a backbone's stages), and the config that says so.

What has gone through k old layers has, in the grown model, gone through them and the new layers before the
next old one; a new layer computes the identity, so it is the same, and the last readout is past all layers.
What has gone through none stays so. Keys that list such numbers, or hold one, follow (`Layout.readouts`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from isogrow.layouts.config import get
from isogrow.layouts.layout import Readout
from isogrow.plans.plan import Place
from isogrow.rules.subject import Subject


def readouts(subject: Subject, axis: str, places: Iterable[Place]) -> dict[str, Any]:
    """The config's edits where new layers move what the keys name."""
    edits: dict[str, Any] = {}
    ran = _ran(tuple(places))
    for read in subject.layout.readouts:
        at = subject.layout.path(read.key, subject.config)
        now = get(subject.config, at)
        if now is None and read.only:
            now = subject.layout.defaults(subject.config)[read.key]
        if read.axis != axis or not isinstance(now, list | tuple | int):
            continue
        if isinstance(now, int):
            edits |= {at: _moved(read, now, ran)} if _moved(read, now, ran) != now else {}
            continue
        every = [*now[:1], *(read.name.format(k) for k in range(1, ran[-1] + 1))]
        after = every if read.every else [_moved(read, entry, ran) for entry in now]
        if after != list(now):
            edits[at] = after
    return edits


def _ran(places: Sequence[Place]) -> list[int]:
    """By how many old layers have run: how many have in the grown model."""
    kept = sorted(position for place in places if place.old for position in place.positions)
    return [0, *kept[1:], sum(place.count for place in places)]


def _moved(read: Readout, entry: Any, ran: list[int]) -> Any:
    if isinstance(entry, int) and read.behind:
        return ran[entry + 1] - 1 if 0 <= entry < len(ran) - 1 else entry
    if isinstance(entry, int):
        past = entry if entry >= 0 else len(ran) + entry
        known = 0 <= past < len(ran)
        return (ran[past] - (0 if entry >= 0 else ran[-1] + 1)) if known else entry
    found = re.fullmatch(re.escape(read.name).replace(r"\{\}", r"(\d+)"), str(entry)) if read.name else None
    past = int(found[1]) if found else len(ran)
    return read.name.format(ran[past]) if past < len(ran) else entry
