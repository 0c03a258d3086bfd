"""What `verify` found, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One check: `passed` is None where it was skipped, and `detail` then says why.

    `value` is what was measured, `limit` what it may be at most (at least, for fractions of channels).
    """

    name: str
    passed: bool | None
    value: float | None = None
    limit: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """All checks of a pair of models, and figures that are reported beside them."""

    checks: tuple[Check, ...]
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and preservation was really looked at."""
        ran = any(check.name == "float64" and check.passed for check in self.checks)
        return ran and all(check.passed is not False for check in self.checks)

    @property
    def skipped(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.passed is None)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.passed is False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        checks = [
            {"name": c.name, "passed": c.passed, "value": c.value, "limit": c.limit, "detail": c.detail}
            for c in self.checks
        ]
        return {"passed": self.passed, "checks": checks, "figures": dict(self.figures)}
