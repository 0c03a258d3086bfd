"""Sizes: one for all layers, or one at each site."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isogrow.plans.sizes import Sizes, key, unkey

SIZES = Sizes(
    {"layers": 2, "heads[0]": 1, "heads[1]": 3, "dim[0,0]": 5, "dim[1,0]": 7, "dim[1,1]": 8, "dim[1,2]": 9}
    | {"hidden": 4, "ffn": 6},
    {"heads": ("layers",), "dim": ("layers", "heads")},
)


def at(layer: int, head: int) -> tuple[tuple[str, int], ...]:
    return (("layers", layer), ("heads", head))


def test_a_size_belongs_to_its_site() -> None:
    assert SIZES.of("hidden") == SIZES.of("hidden", at(1, 2)) == 4
    assert SIZES.of("heads", at(1, 2)) == 3
    assert [SIZES.of("dim", at(1, e)) for e in range(3)] == [7, 8, 9]
    assert SIZES.of("dim", tuple(reversed(at(1, 2)))) == 9
    assert SIZES.site("dim", (*at(1, 2), ("experts", 4))) == at(1, 2)
    assert SIZES.site("hidden", at(1, 2)) == ()
    with pytest.raises(KeyError):
        SIZES.of("heads")


def test_has() -> None:
    assert all(SIZES.has(axis) for axis in ("layers", "heads", "dim", "ffn"))
    assert not any(SIZES.has(axis) for axis in ("head", "di", "vocab", "dim[0,0"))


def test_sites_are_listed_in_order() -> None:
    assert list(SIZES.all_sites("hidden")) == [()]
    assert list(SIZES.all_sites("heads")) == [(("layers", 0),), (("layers", 1),)]
    assert list(SIZES.all_sites("dim")) == [at(0, 0), at(1, 0), at(1, 1), at(1, 2)]
    assert list(SIZES.indices(("heads",), (("layers", 0),))) == [at(0, 0)]


def test_a_number_that_no_model_has_is_not_counted_to() -> None:
    """A config may state anything; what is missing is found at the first index that is."""
    sizes = Sizes({"layers": 10**30, "experts": 2**63, "few": 2})
    found = sizes.indices(("few", "layers", "experts"))
    assert [next(found) for _ in range(2)] == [(("few", 0), ("layers", 0), ("experts", n)) for n in range(2)]


@given(st.from_regex(r"[a-z_]+", fullmatch=True), st.lists(st.integers(0, 999), max_size=3))
def test_unkey_is_the_inverse_of_key(axis: str, site: list[int]) -> None:
    name = key(axis, tuple((f"axis{i}", place) for i, place in enumerate(site)))
    assert unkey(name) == (axis, tuple(site))
