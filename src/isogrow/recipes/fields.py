"""What a recipe's values may be: counts, rates, shares, files, and how they may be written."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
STRICT = ConfigDict(extra="forbid")


def count(value: Any) -> Any:
    """A number may be written as 8M, or 8m. Raises `ValueError` for words that are none.

    >>> count("8M"), count("1.5k"), count("1e6"), count(7)
    (8000000.0, 1500.0, 1000000.0, 7)
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(.*?)([KMBT]?)", value.strip().upper())
    assert found is not None
    try:
        return float(Decimal(found[1]) * UNITS[found[2]])  # 1.001M is whole
    except InvalidOperation:
        raise ValueError("give a number, like 8000, 8K, 8M, 8B or 8T (thousands to trillions)") from None


def listed(value: Any) -> Any:
    """One file's name may stand for a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


Files = Annotated[tuple[str, ...], BeforeValidator(listed)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0), BeforeValidator(count)]
Length = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(count)]
Some = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(count)]
