"""Numbers for the free entries, each a function of its key and its logical coordinates alone.

The generator is counter-based (`hashing`). So a chunk, a shard or a single entry is filled without the rest,
and neither chunk size, thread count, nor the order of tensors changes one bit. Samples have mean 0 and
variance 1; the caller scales them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import torch

from isogrow.errors import IsogrowError, SizeError
from isogrow.numbers.hashing import Bits, Box, Floats, cut, mixed_, places, seeds
from isogrow.numbers.normal import normal
from isogrow.plans.regions import Region, registered

# Initializers that can make a part of a region; all others make it whole.
PARTS = ("normal", "uniform", "box-muller")
WHOLE_LIMIT = 1 << 24


def sample(kind: str, key: str, shape: tuple[int, ...], box: Box) -> Floats:
    """The entries at `box` of a region of `shape` filled by initializer `kind` under `key`.

    >>> whole = sample("normal", "k", (4, 6), (range(4), range(6)))
    >>> bool((sample("normal", "k", (4, 6), (range(1, 3), range(6))) == whole[1:3]).all())
    True
    """
    return INITIALIZERS[kind](key, shape, box)


def box_muller(key: str, shape: tuple[int, ...], box: Box) -> Floats:
    """Standard normal, by Box and Muller's transform of the two halves of 64 random bits: what version 1 of
    plans calls normal."""

    def transformed(bits: Bits) -> Floats:
        radius = ((bits >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
        radius = np.sqrt(-2.0 * np.log(radius))
        angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0 * np.pi * 2.0**-32)
        # numpy has no vectorised cosine in float64.
        return radius * torch.from_numpy(angle).cos_().numpy()

    return _each(transformed, key, shape, box)


def uniform(key: str, shape: tuple[int, ...], box: Box) -> Floats:
    """Uniform on (-√3, √3)."""

    def transformed(bits: Bits) -> Floats:
        unit = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        return (2.0 * unit - 1.0) * np.sqrt(3.0)

    return _each(transformed, key, shape, box)


def orthogonal(key: str, shape: tuple[int, ...], box: Box) -> Floats:
    """Orthonormal rows or columns (whichever are fewer) of the region seen as (all but last) x last,
    times the root of the other number.

    Needs the whole region at once: refused above `WHOLE_LIMIT` entries.
    """
    check_whole("orthogonal", shape)
    rows, columns = prod(shape[:-1]), shape[-1]
    q = _rotated(key, max(rows, columns), min(rows, columns)) * np.sqrt(max(rows, columns))
    placed = (q if rows >= columns else q.T).reshape(shape)
    return np.ascontiguousarray(placed[tuple(slice(r.start, r.stop) for r in box)])


def _rotated(key: str, rows: int, columns: int) -> Floats:
    """The identity's first columns after rounds of random rotations of random pairs of rows.

    Every round keeps the columns orthonormal, log2(rows) of them spread each column over all rows, and
    twice as many make the entries nearly normal. A QR decomposition would do in one call, but its last
    bits depend on the number of threads.
    """
    x, half = np.eye(rows, columns), rows // 2
    for i in range(2 * rows.bit_length() + 8):
        draw = uniform(f"{key}/round{i}", (2, rows), (range(2), range(rows)))
        order = np.argsort(draw[0], kind="stable")
        one, two = order[:half], order[half : 2 * half]
        angle = draw[1, :half, None] * (np.pi / np.sqrt(3.0))
        a, b = x[one], x[two]
        x[one], x[two] = np.cos(angle) * a - np.sin(angle) * b, np.sin(angle) * a + np.cos(angle) * b
    return x * np.sign(uniform(f"{key}/signs", (columns,), (range(columns),)))


def made(kind: str, region: Region) -> Floats:
    """A region's numbers by a function of the user's, as they are to be.

    Raises `SizeError` for a function that gives something else than finite numbers of the region's shape.
    """
    check_whole(kind, region.shape)
    function = registered(kind)
    try:
        given = function(region)
    except IsogrowError:
        raise
    except Exception as error:  # of the user's own code, whatever it is
        raise SizeError(
            f"init {kind!r} ended with {type(error).__name__} ({error}) for the new entries of"
            f" {_where(region)} when {region.axis} grows: it is called with an isogrow.Region"
        ) from error
    try:
        x = torch.as_tensor(given).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise _unfit(kind, region, f"a {type(given).__name__}, which is no array of numbers") from error
    if x.is_complex():
        raise _unfit(kind, region, "complex numbers")
    found = x.to("cpu", torch.float64, copy=True).numpy()
    if found.shape != region.shape:
        raise _unfit(kind, region, f"an array of shape {list(found.shape)}")
    if not np.isfinite(found).all():
        raise _unfit(kind, region, "numbers that are not finite")
    return found


def _where(region: Region) -> str:
    return " ".join((region.slot, *(f"{axis}={i}" for axis, i in region.index)))


def _unfit(kind: str, region: Region, what: str) -> SizeError:
    return SizeError(
        f"init {kind!r} gives {what} for the new entries of {_where(region)} when {region.axis} grows: return"
        f" finite numbers of shape {list(region.shape)}"
    )


def check_whole(kind: str, shape: tuple[int, ...]) -> None:
    """Refuse a region that is too large for an initializer that needs all of it at once."""
    if kind not in PARTS and prod(shape) > WHOLE_LIMIT:
        raise SizeError(
            f"init {kind!r} needs a new block of {prod(shape):,} entries whole, and at most"
            f" {WHOLE_LIMIT:,} are filled at once: choose init 'normal'"
        )


INITIALIZERS: Mapping[str, Callable[[str, tuple[int, ...], Box], Floats]] = {
    "normal": normal,
    "box-muller": box_muller,
    "uniform": uniform,
    "orthogonal": orthogonal,
}


def _each(transformed: Callable[[Bits], Floats], key: str, shape: tuple[int, ...], box: Box) -> Floats:
    """The transform of 64 random bits for every entry of the box, in runs that a cache holds."""
    at, (seed,) = places(shape, box), seeds(key, 1)
    result = np.empty(at.size)
    for run in cut(at.size):
        result[run] = transformed(mixed_(at[run], seed))
    return result.reshape([len(r) for r in box])
