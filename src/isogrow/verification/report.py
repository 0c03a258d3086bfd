"""What `verify` found, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Cells = tuple[str, str, str, str, str]
HEADINGS: Cells = ("", "check", "value", "limit", "")
MARKS: Mapping[bool | None, str] = {True: "✓", False: "✗", None: "–"}


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
    """All checks of a pair of models, and figures that are reported beside them; `proves` names the check
    that looks at preservation."""

    checks: tuple[Check, ...]
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])
    proves: str = "float64"

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and preservation was really looked at."""
        ran = any(check.name == self.proves and check.passed for check in self.checks)
        return ran and all(check.passed is not False for check in self.checks)

    @property
    def skipped(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.passed is None)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.passed is False)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        checks = [dataclasses.asdict(check) for check in self.checks]
        return {"passed": self.passed, "checks": checks, "figures": dict(self.figures)}

    def __str__(self) -> str:
        """The table that `isogrow verify` prints, as plain text.

        >>> print(Report((Check("float64", True, 3.2e-15, 1e-12, "logits"), Check("reload", None))))
           check    value    limit
        ✓  float64  3.2e-15  1e-12  logits
        –  reload
        """
        table = [HEADINGS, *(row(check) for check in self.to_dict()["checks"])]
        widths = [max(len(cells[at]) for cells in table) for at in range(len(HEADINGS))]
        return "\n".join(_line(cells, widths) for cells in table)


def row(check: Mapping[str, Any]) -> Cells:
    """One check (as `to_dict` has it) as the cells of a table: mark, name, value, limit, detail."""
    value, limit = ("" if n is None else f"{n:.3g}" for n in (check["value"], check["limit"]))
    return MARKS[check["passed"]], check["name"], value, limit, check["detail"]


def _line(cells: Cells, widths: list[int]) -> str:
    """Cells side by side, numbers to the right."""
    mark, name, value, limit, detail = cells
    numbers = (text.rjust(width) for text, width in zip((value, limit), widths[2:4], strict=True))
    return "  ".join((mark.ljust(widths[0]), name.ljust(widths[1]), *numbers, detail)).rstrip()


def silent(_: str) -> None:
    """Progress that nobody listens to."""
