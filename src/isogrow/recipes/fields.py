"""What a recipe's values may be: counts, rates, shares, files, and how they may be written."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
STRICT = ConfigDict(extra="forbid")


def count(value: Any) -> Any:
    """A whole number may be written as 8M.

    >>> count("8M"), count(7), count("many")
    (8000000.0, 7, 'many')
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB])", value) if isinstance(value, str) else None
    return float(found[1]) * UNITS[found[2]] if found is not None else value


def listed(value: Any) -> Any:
    """One file's name may stand for a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


Files = Annotated[tuple[str, ...], BeforeValidator(listed)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0), BeforeValidator(count)]
Some = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(count)]
