"""Where a head's channels go under rotary positions, and what the config then says.

Rotary positions pair the channels: pair i of k/2 turns by position · θ^(-2i/k), scaled by a function of its
frequency, of its number, or of neither. An old pair stays a pair, and turns as before:

    stride    k̂ = m·k: pair i moves to m·i, since θ^(-2mi/k̂) = θ^(-2i/k), bit for bit
    power     any even k̂: pair i keeps its place, and θ̂ = θ^(k̂/k), up to the rounding of the table

"proportional" turns a part of the pairs, and the others by zero; the config's part follows, so that old pairs
are of the kind that they were.

LongRoPE divides each frequency by a factor from a list. A factor goes where its pair goes; a new pair has
that of the pair before it.

An image's token has positions in time, height and width, and the config says how many pairs turn by each
(`mrope_section`): a run of pairs stays a run, and where positions are interleaved (pair i turns by i mod 3),
pair m·i turns by the same one iff m mod 3 = 1.

Where only the first r channels rotate, the rest grows: the rotating ones and their frequencies, functions of
r, stay. A config that holds r / k gets r / k̂.

Where a list says the θ of each layer, each takes the same power; a layer whose θ is 0 turns nothing.

Where kinds of layers have tables of their own, one placement must suit all of them; each gets its own edits.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor, log, nextafter, pi
from typing import Any

from isogrow.errors import SizeError
from isogrow.layouts.config import Config, edited, get
from isogrow.layouts.layout import Rope
from isogrow.layouts.rotary import AXES, SECTIONS
from isogrow.plans.plan import OLD, Place
from isogrow.rules.places import MORE, NEW, append
from isogrow.rules.subject import Subject

STRIDED = ("default", "linear", "llama3", "longrope", "proportional")
POWERED = (*STRIDED, "yarn")
BY_PART = ("default", "linear", "llama3", "longrope", "yarn", "dynamic")  # functions of what rotates alone
LISTS = ("short_factor", "long_factor")
INSTEAD = "leave the head dim and grow heads instead"

Placed = tuple[tuple[Place, ...], dict[str, Any]]


def placed(subject: Subject, axis: str, ropes: tuple[Rope, ...], old: int, new: int, copied: bool) -> Placed:
    """Where old channels go, and the config's edits; `copied`: new channels are copies, and only a stride
    lets those turn."""
    kinds = [rope.kind(subject.config) for rope in ropes]
    turning = [subject.layout.rotated(rope, subject.config, old) for rope in ropes]
    word = subject.word(axis)
    parts = [n < old or bool(rope.rotated) for n, rope in zip(turning, ropes, strict=True)]
    if all(parts):
        _check_kinds(word, kinds, BY_PART)
        return append(old, new), _shared(subject, ropes, turning, new)
    _check_kinds(word, kinds, POWERED)
    if any(parts):
        raise subject.cannot_grow(
            axis,
            "all channels of a head rotate in some layers, and a part of them in others, and no one placement"
            f" suits both; {INSTEAD}",
        )
    if new % 2:
        raise SizeError(f"{word}={new} is odd, and rotary positions pair its channels: give {new + 1}")
    spreads = all(kind in STRIDED for kind in kinds) and all(_spreads(rope, new // old) for rope in ropes)
    if new % old == 0 and spreads:
        edits = _factors(subject, ropes, old, new, spread=True) | _turning(
            subject, ropes, old, new, new // old
        )
        edits |= _sections(subject, ropes, old, new, spread=True)
        return strided(ropes[0].pairs, old, new), edits
    if copied:
        raise SizeError(
            f"{word} can't grow exactly under QK-norm with rope scaling {kinds[0]!r}: its frequencies"
            f" can't be spread{_spread_by(ropes, old)}; {INSTEAD}"
        )
    edits = {path: theta for rope in ropes for path, theta in _powered(subject, axis, rope, old, new).items()}
    edits |= _factors(subject, ropes, old, new, spread=False) | _turning(subject, ropes, old, new, 1)
    edits |= _sections(subject, ropes, old, new, spread=False)
    return _appended_pairs(ropes[0].pairs, old, new), edits


def renamed(subject: Subject, edits: Mapping[str, Any]) -> dict[str, Any]:
    """Each table's θ under its old name, where the edited config says it under the new one alone."""
    config = edited(subject.config, edits)
    ropes = (rope for attention in subject.layout.attentions for rope in attention.ropes)
    turning = (rope for rope in ropes if subject.layout.holds(rope.when, subject.config))
    return {rope.theta[-1]: rope.base(config) for rope in turning if get(config, rope.theta[-1]) is None}


def strided(pairs: str, old: int, new: int) -> tuple[Place, ...]:
    """Pair i moves to pair m·i; pairs m·i + r are new, like pair i."""
    m = new // old
    labels = (OLD, NEW, *(MORE for _ in range(2, m)))
    if pairs == "adjacent":
        return tuple(
            Place(2 * (m * i + r), 2, 2 * i, label) for i in range(old // 2) for r, label in enumerate(labels)
        )
    return tuple(
        Place(half * new // 2 + r, old // 2, half * old // 2, label, m)
        for half in (0, 1)
        for r, label in enumerate(labels)
    )


def _appended_pairs(pairs: str, old: int, new: int) -> tuple[Place, ...]:
    """Pair i keeps its place; new pairs follow."""
    if pairs == "adjacent":
        return append(old, new)
    half = append(old // 2, new // 2)
    shifted = (Place(p.start + new // 2, p.count, p.source + old // 2, p.label) for p in half)
    return (*half, *shifted)


def _check_kinds(word: str, kinds: list[str], known: tuple[str, ...]) -> None:
    """Refuse by name the types of scaling under which no exact rule is known."""
    for kind in kinds:
        if kind not in known:
            raise SizeError(
                f"{word} can't grow under rope scaling {kind!r}: its frequencies depend on the head dim in"
                f" a way no config undoes; {INSTEAD}"
            )


def _turning(subject: Subject, ropes: tuple[Rope, ...], old: int, new: int, times: int) -> dict[str, Any]:
    """The part of the pairs that "proportional" turns: as many as before, or `times` as many, if spread."""
    edits: dict[str, Any] = {}
    for rope in (rope for rope in ropes if rope.kind(subject.config) == "proportional"):
        path, turning = rope.held(subject.config, "partial_rotary_factor"), rope.turning(subject.config, old)
        wanted = times * turning
        share = 2 * wanted / new
        while int(share * new // 2) < wanted:
            share = nextafter(share, 1.0)
        if turning < old // 2 and rope.turning(subject.config, new) != wanted:
            edits[path or f"{rope.read(subject.config)[0]}.partial_rotary_factor"] = share
    return edits


def _spreads(rope: Rope, times: int) -> bool:
    """Whether pair times·i turns by the same of an image's positions as pair i did: i mod 3 says by which,
    where they are interleaved."""
    return rope.grids != "interleaved" or times % AXES == 1


def _spread_by(ropes: tuple[Rope, ...], old: int) -> str:
    """What they can be spread by, where it is an image's positions that forbid it."""
    interleaved = any(rope.grids == "interleaved" for rope in ropes)
    return f", but to {(AXES + 1) * old}, where pairs turn by the same positions" if interleaved else ""


def _sections(subject: Subject, ropes: tuple[Rope, ...], old: int, new: int, spread: bool) -> dict[str, Any]:
    """How many pairs turn by each of an image's positions: times as many, or more of the last run."""
    edits: dict[str, Any] = {}
    for rope in (rope for rope in ropes if rope.grids):
        said = rope.sectioned(subject.config)
        more = [*said[:-1], said[-1] + (new - old) // 2] if rope.grids == "runs" else [*said]
        wanted = [count * (new // old) for count in said] if spread else more
        if wanted != [*said]:
            table = (*rope.read(subject.config), rope.scaling[-1])[0]
            edits[rope.held(subject.config, SECTIONS) or f"{table}.{SECTIONS}"] = wanted
    return edits


def _shared(subject: Subject, ropes: tuple[Rope, ...], turning: list[int], new: int) -> dict[str, Any]:
    """The config's part of the channels that rotates, such that the model's int(k̂ · part) is what it was."""
    edits: dict[str, Any] = {}
    for rope, count in zip(ropes, turning, strict=True):
        share = count / new
        while int(new * share) < count:
            share = nextafter(share, 1.0)
        kept = [path for path in rope.share if get(subject.config, path) is not None]
        edits |= {} if rope.rotated else dict.fromkeys(kept or rope.share[-1:], share)
    return edits


def _factors(subject: Subject, ropes: tuple[Rope, ...], old: int, new: int, spread: bool) -> dict[str, Any]:
    """LongRoPE's lists: each factor m times in its place (`spread`), or the last one for all new pairs."""
    edits: dict[str, Any] = {}
    for rope in (rope for rope in ropes if rope.kind(subject.config) == "longrope"):
        for key in LISTS:
            path = rope.held(subject.config, key)
            factors: list[float] = list(get(subject.config, path) or ()) if path else []
            if len(factors) != old // 2:
                raise SizeError(
                    f"config key {path or key!r} lists {len(factors)} factors, but {old // 2} pairs rotate:"
                    " correct config.json"
                )
            more = factors[-1:] * ((new - old) // 2)
            edits[path] = [f for f in factors for _ in range(new // old)] if spread else [*factors, *more]
    return edits


def _powered(subject: Subject, axis: str, rope: Rope, old: int, new: int) -> dict[str, Any]:
    """θ̂ = θ^(k̂/k), wherever the config keeps a θ, and under its old name: some readers know no other.

    A table that the class fills in, its θ with it, is written out.
    """
    written = _written(rope, subject.config)
    config = edited(subject.config, written)
    kept = {path: get(config, path) for path in rope.theta}
    thetas = {path: float(theta) for path, theta in kept.items() if theta is not None}
    thetas.setdefault(rope.theta[-1], rope.base(config))
    layers = rope.by_layer(config)
    if rope.kind(config) == "yarn":
        for theta in {rope.base(config), *filter(None, layers)}:
            _check_ramp(subject, axis, rope, old, theta)
    listed = {rope.listed: [theta and theta ** (new / old) for theta in layers]} if layers else {}
    return written | {path: theta ** (new / old) for path, theta in thetas.items()} | listed


def _written(rope: Rope, config: Config) -> dict[str, Any]:
    """The table that a class fills in where the config has none, if no θ beside it is read."""
    if rope.read(config) or "rope_theta" not in dict(rope.filled):
        return {}
    return {f"{rope.scaling[-1]}.{key}": value for key, value in rope.filled}


def _check_ramp(subject: Subject, axis: str, rope: Rope, old: int, theta: float) -> None:
    """YaRN's ramp between pairs k log(L / 2πβ) / 2 log θ, which θ̂ keeps, ends no later than at k - 1."""
    config = subject.config
    given = (
        get(config, "original_max_position_embeddings"),
        rope.value(config, "original_max_position_embeddings"),
        get(config, "max_position_embeddings"),
    )
    length = next((n for n in given if n is not None), 1)

    def pair(turns: float) -> float:
        return old * log(length / (2 * pi * turns)) / (2 * log(theta))

    begin, end = pair(rope.value(config, "beta_fast") or 32), pair(rope.value(config, "beta_slow") or 1)
    if ceil(end) > old - 1 and floor(begin) < old // 2 - 1:
        word = subject.word(axis)
        raise SizeError(
            f"{word} can't grow under this rope scaling: with θ = {theta:g} the ramp of 'yarn' is cut off at"
            f" pair {old - 1}, and the cut would move; {INSTEAD}"
        )
