"""Rotary positions: what a family's config says of them, and where it says it.

A config keeps θ and the scaling of the frequencies in one table, or in one for each kind of layer; old and
new names may stand side by side, and then one is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from isogrow.layouts.config import Config, get

# What the code wants of a table of each kind: numbers, and lists of them.
WANTED: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor"),
}

SECTIONS = "mrope_section"
AXES = 3  # an image's time, height and width


@dataclass(frozen=True)
class Rope:
    """Rotary positions: where theta and scaling stand in the config, and how the rotated pairs lie.

    Of `scaling` the first that is there is read, with the theta in it, or the last of `theta`; if `merged`,
    each of them stands over the next. `aliases` are old words for kinds of scaling.

    `pairs`: "half" rotates channel i with i + rotated/2; "adjacent" rotates 2i with 2i + 1. The channels that
    rotate come first: all of them, or the part of them that the first config path of `share` says (`portion`,
    if none does), or as many as the formula `rotated` says. `everywhere` is False where some layers have no
    positions; `others` are the tables of other kinds of layers. `when` is a formula over config keys: nothing
    rotates where it is false. `filled` is the table that the class fills in where the config has none.
    `listed` is the path of a list with the θ of each layer, 0 where a layer turns nothing.

    With `grids` a token of an image has three positions (time, height, width), and each pair turns by one of
    them: "runs" lets as many pairs as the table's `mrope_section` says take the first, the second, the third,
    one run behind the other; "interleaved" lets every third pair take the second, and every third the third,
    up to as many as it says. `sections` are the class's own, where the table has none.
    """

    pairs: Literal["half", "adjacent"] = "half"
    theta: tuple[str, ...] = ("rope_scaling.rope_theta", "rope_parameters.rope_theta", "rope_theta")
    scaling: tuple[str, ...] = ("rope_scaling", "rope_parameters")
    default: float = 10000.0
    share: tuple[str, ...] = ()
    portion: float = 1.0
    rotated: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    everywhere: bool = True
    merged: bool = False
    others: tuple[Rope, ...] = ()
    when: str = ""
    filled: tuple[tuple[str, Any], ...] = ()
    listed: str = ""
    grids: Literal["", "runs", "interleaved"] = ""
    sections: tuple[int, ...] = ()

    def read(self, config: Config) -> tuple[str, ...]:
        """The config paths of the tables that the model reads, the one that wins first."""
        there = tuple(path for path in self.scaling if get(config, path))
        return there if self.merged else there[:1]

    def held(self, config: Config, key: str) -> str:
        """The config path under which the model finds a table's key; "" where it is nowhere."""
        paths = (f"{path}.{key}" for path in self.read(config))
        return next((path for path in paths if get(config, path) is not None), "")

    def value(self, config: Config, key: str, default: Any = None) -> Any:
        """What the model reads for a table's key."""
        path = self.held(config, key)
        absent = {} if self.read(config) else dict(self.filled)
        return get(config, path) if path else absent.get(key, default)

    def kind(self, config: Config) -> str:
        """The type of scaling, by its name of today."""
        said = str(self.value(config, "rope_type", self.value(config, "type", "default")))
        return dict(self.aliases).get(said, said)

    def base(self, config: Config) -> float:
        """The θ that the model reads: that of its table, or the common one, or the default."""
        kept = (self.value(config, "rope_theta"), get(config, self.theta[-1]), self.default)
        return float(next(theta for theta in kept if theta is not None))

    def by_layer(self, config: Config) -> list[float]:
        """The θ of each layer, where a list says it."""
        return [float(theta) for theta in (get(config, self.listed) if self.listed else None) or ()]

    def sectioned(self, config: Config) -> tuple[int, ...]:
        """How many pairs turn by time, height and width; none where tokens have one position."""
        return tuple(self.value(config, SECTIONS) or self.sections) if self.grids else ()

    def grid(self, config: Config, pairs: int) -> tuple[int, ...]:
        """Which of its positions (0, 1, 2) each of so many pairs turns by."""
        said = self.sectioned(config)
        if self.grids == "runs":
            return tuple(nth % AXES for nth, count in enumerate(said) for _ in range(count))
        if self.grids == "interleaved":
            return tuple(i % AXES if i < AXES * said[i % AXES] else 0 for i in range(pairs))
        return (0,) * pairs

    def missing(self, config: Config) -> str:
        """The first key that a table of its kind must have, and has not as numbers above 0; "" if none."""
        for key in WANTED.get(self.kind(config), ()):
            value = self.value(config, key)
            numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
            if not numbers or not all(isinstance(n, int | float) and n > 0 for n in numbers):
                return key
        return ""

    def part(self, config: Config) -> float:
        """The part of a head's channels that rotates."""
        unread = {*self.scaling} - {*self.read(config)}
        given = (get(config, path) for path in self.share if path.rpartition(".")[0] not in unread)
        return float(next((share for share in given if share is not None), self.portion))

    def turning(self, config: Config, head: int) -> int:
        """How many pairs of a head the kind "proportional" turns by more than zero."""
        key = self.share[-1] if self.share else "partial_rotary_factor"
        given = (self.value(config, "partial_rotary_factor"), get(config, key), self.portion)
        return int(next(part for part in given if part is not None) * head // 2)

    def rest(self, config: Config) -> Mapping[str, Any]:
        """All of the table but its type, its θ and what has an entry for each pair."""
        apart = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "short_factor", "long_factor"}
        apart |= {SECTIONS} if self.grids else set()
        read = self.read(config)
        tables: list[Mapping[str, Any]] = [get(config, path) for path in reversed(read)]
        tables = tables if read else [dict(self.filled)]
        found = {key: value for table in tables for key, value in table.items()}
        return {key: value for key, value in found.items() if key not in apart}
