"""What the keys of a config hold: sizes, entries for each layer, which layers are of a kind, and where a
model is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isogrow.layouts.config import Config, get


@dataclass(frozen=True)
class Key:
    """A config key: the formula over sizes that it holds ("" if none), and its class's default.

    `null` is what the class takes an explicit null for, where that is not its default. A key holds no size
    where an axis of its formula is missing, or the formula `when` over config keys is false. `alias` is
    another name for it, which the class takes where both are given. `usual` is a formula over sizes: what it
    is by convention, which some readers compute whatever the key says; where it is that, it stays that.
    """

    name: str
    size: str = ""
    default: Any = None
    null: Any = None
    when: str = ""
    alias: str = ""
    usual: str = ""

    def meant(self, config: Config) -> Any:
        """What the class takes the key for where the config does not say."""
        *folders, last = self.name.split(".")
        holder = get(config, ".".join(folders)) if folders else config
        said_null = self.null is not None and isinstance(holder, Mapping) and last in holder
        return self.null if said_null else self.default


@dataclass(frozen=True)
class PerLayer:
    """A config list with one entry a layer; `default` is a formula over config keys and `i`.

    With `runs` it is a list of runs, [entries, how often they come one after the other]; with `mapped` a
    mapping from a layer's number to its entry, where it has one.
    """

    key: str
    default: str = ""
    axis: str = "layers"
    runs: bool = False
    mapped: bool = False


@dataclass(frozen=True)
class Kinds:
    """A config key that says which layers are of a kind: those for which the formula `where` is true.

    It lists their numbers, or (`counts`) says how many there are, all of them before the others.
    `beside` are keys that take these values where the list alone must say it.
    """

    key: str
    where: str
    counts: bool = False
    beside: tuple[tuple[str, Any], ...] = ()
    axis: str = "layers"


@dataclass(frozen=True)
class Readout:
    """A config list of where a model is read (a backbone's stages), each by how many layers have run; or one
    such entry.

    Its entries are numbers, of which a negative one counts from the end; or names that hold one, like `name`.
    With `every` it lists all such names in order, after that of what no layer has gone through. With `behind`
    an entry is the number of the layer that has run last. With `only` nothing reads what runs behind the last
    of them (a projector that takes a tower's features from before its end).
    """

    key: str
    name: str = ""
    every: bool = False
    axis: str = "layers"
    behind: bool = False
    only: bool = False

    def past(self, value: Any, count: int) -> tuple[int, ...]:
        """Behind how many of `count` layers each entry of this value that is a number reads.

        >>> Readout("vision_feature_layer").past([-2, 1], 4)
        (3, 1)
        """
        entries: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
        numbers = (entry for entry in entries if type(entry) is int)
        return tuple(n + self.behind if n >= 0 else count + 1 + n for n in numbers)
