"""What an engine makes of a checkpoint, as data: one table a file, and a row for each thing that it does its
own way.

An engine is a program that reads a grown checkpoint in place of transformers: to serve it, convert it or
quantize it. A row says what it takes from nowhere but itself (`Fixes`, `Scale`, `Period`), what it looks for
under one name alone (`OldName`), what it can't hold (`Takes`, `Projections`), and what it rounds (`Rounds`,
`Coarse`). Each row names the families that it is true of (none: all that the engine takes), the version, and
how that was seen.

Rows are read by `isogrow.engines.reading`; conditions on sizes also where these are sought
(`planning.portable`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

How = Literal["run", "read, not run"]


@dataclass(frozen=True)
class Seen:
    """In which version something was seen, and how: the engine was run, or its source was read."""

    version: str
    how: How


@dataclass(frozen=True)
class Fixes:
    """The engine runs with a number of its own (`to`) for a config key: an ε, or a θ by its old name.

    `shows` is False where that was seen to change no output: what the number stands beside is too large.
    """

    key: str
    to: float
    families: tuple[str, ...]
    seen: Seen
    shows: bool = True


@dataclass(frozen=True)
class Scale:
    """The engine computes the attention's scale by this formula over sizes, whatever the config says."""

    formula: str
    families: tuple[str, ...]
    seen: Seen


@dataclass(frozen=True)
class Period:
    """The engine computes a config list with one entry a layer from the layer's number `i`, by this formula,
    which may name sizes, too.

    `weighs`: layers of another entry have other tensors, so a new layer of the wrong one does not load.
    """

    key: str
    formula: str
    families: tuple[str, ...]
    seen: Seen
    weighs: bool = False


@dataclass(frozen=True)
class OldName:
    """The engine reads the θ of rotary positions under its old name alone (`rope_theta`), or takes its
    own."""

    families: tuple[str, ...]
    seen: Seen


@dataclass(frozen=True)
class Takes:
    """The engine holds only models of which this formula over sizes is true; `else_` says what it does to
    others, which stand at its `{}`.

    A formula may name the words of sizes (`heads`, `head_dim`), `vocab`, `itemsize` (the bytes of a weight)
    and the engine's own number `n`.
    """

    condition: str
    families: tuple[str, ...]
    seen: Seen
    else_: str = "refuses {}"


@dataclass(frozen=True)
class Projections:
    """The engine takes any projection that is as wide as the vocabulary for the model's head."""

    families: tuple[str, ...]
    seen: Seen


@dataclass(frozen=True)
class Rounds:
    """The engine rounds a number that it computes from sizes, in float32 models too."""

    formula: str
    to: Literal["bfloat16", "two decimals"]
    families: tuple[str, ...]
    seen: Seen


@dataclass(frozen=True)
class Coarse:
    """The engine computes what these axes run through no more exactly than this relative error."""

    axes: tuple[str, ...]
    error: float
    families: tuple[str, ...]
    seen: Seen


Row = Fixes | Scale | Period | OldName | Takes | Projections | Rounds | Coarse


@dataclass(frozen=True)
class Engine:
    """One engine: what `--for` calls it, what people do, and what is known of it.

    `families` are those that were seen to load and run, `refused` those that were not, before any growth, and
    why. `aside` engines are spoken of only when they are asked for: most users have nothing to do with them.
    `unit` says what the number `n` is, where one belongs to the name (`tp=8`). `packages` are what pip
    installs to run it, in the versions in which it was run; `sources` are variables of the environment, and
    the folder that each is to name: one in the source archive of the first of these packages. `apart` are
    packages that it wants in other versions than isogrow was tested with, `without` those that its own bring
    along and that texts don't need.
    """

    name: str
    title: str
    version: str
    date: str
    families: tuple[str, ...]
    rows: tuple[Row, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    aside: bool = False
    unit: str = ""
    n: int = 0
    packages: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    apart: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        """What a sentence calls it: with its version, or with its number."""
        return f"{self.title} {self.n if self.unit else self.version}"

    def of(self, family: str) -> tuple[Row, ...]:
        """The rows that are true of a family."""
        return tuple(row for row in self.rows if not row.families or family in row.families)

    def takes(self, family: str) -> bool:
        """Whether models of a family were seen to run; an engine that names none takes all."""
        return family not in self.refused and (not self.families or family in self.families)
