"""What growing saves at equal operations, against a scratch run that is tuned as hard.

    python -m benchmarks.training small     some minutes: few contestants, two seeds, a short budget
    python -m benchmarks.training full      all of it: some hours of two cores; go on with it at any time
    python -m benchmarks.training long      three times the budget, one seed, few contestants: half an hour
    python -m benchmarks.training family    three sizes that are all wanted, in one run or each: hours, too
    python -m benchmarks.training sunk      a small model that is already there, made larger: hours, too
    python -m benchmarks.training carry     what keeps more of a small model's lead: hours, too
    python -m benchmarks.training device    the same at 3M, 6M and 12M parameters, on a CUDA device
    python -m benchmarks.training larger    and at 30M, 60M and 120M
    python -m benchmarks.training page      the page and the plot again, from the rows that are there

A byte-level Llama of 442k parameters beside embeddings learns Python's standard library, from scratch or
grown from a smaller one (55k to 233k), at the same number of operations, those of the small phase included.
Scratch is tuned over learning rate and initial std; contestants are screened on a seed of their own; the best
and the rivals run on fresh seeds. Every finished run is a line of a JSONL file and is not run again. Two
processes of one thread each, and five on a device.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.training import carrying, family, sunk
from benchmarks.training.ceiling import Fit
from benchmarks.training.making import Lacking, Work, run_all
from benchmarks.training.page import law_of, table, write_page
from benchmarks.training.rows import Rows, current, read
from benchmarks.training.scale import SCALES, choose, scale
from benchmarks.training.stages import COURSES, pending, settled
from benchmarks.training.working import made

HERE = Path(__file__).parent
# Courses of their own: their title, what is lacking by the rows, what makes a row, what is told of them.
Told = Callable[[Rows, Fit | None], str]
OTHERS: dict[str, tuple[str, Lacking, Work, Told]] = {
    "family": ("A family of sizes", partial(family.pending, family.FULL), family.made, family.table),
    "sunk": (
        "A small model that is already there",
        partial(sunk.pending, sunk.FULL),
        sunk.made,
        sunk.table,
    ),
    "carry": (
        "What raises the carry",
        partial(carrying.pending, carrying.COURSES),
        carrying.made,
        carrying.table,
    ),
}
HEAD = 2  # lines of a table that say nothing of a row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=(*COURSES, *OTHERS, "page"))
    parser.add_argument("--rows", type=Path, help="finished runs (default: rows-WHAT.jsonl beside this file)")
    parser.add_argument(
        "--cache", type=Path, help="models that several rows start from (default: a temporary folder)"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="after so many no further run is begun"
    )
    asked = parser.parse_args()
    course = "full" if asked.what == "page" else asked.what
    path = asked.rows or HERE / f"rows-{course}.jsonl"
    until = time.monotonic() + 60 * asked.minutes
    if asked.what in OTHERS:
        _, lacking, work, told = OTHERS[asked.what]
        with tempfile.TemporaryDirectory() as own:
            run_all(path, lacking, partial(work, cache=asked.cache or Path(own)), until=until)
        print(told(current(lacking, read(path)), law_at(HERE)))
        return
    choose(SCALES[COURSES[course].scale])
    if scale().device != "cpu" and not torch.accelerator.is_available():
        parser.error(f"{course} is for a {scale().device} device, and there is none")
    if asked.what != "page":
        with tempfile.TemporaryDirectory() as own:
            run(course, path, asked.cache or Path(own), until)
    rows = settled(COURSES[course], read(path))
    if asked.what in ("page", "full"):
        write_page(COURSES[course], rows, read(HERE / "rows-long.jsonl"), HERE, tables(HERE))
    else:
        print(table(rows))


def tables(folder: Path) -> dict[str, str]:
    """What is told of other courses, by the title of its section, where their rows tell something."""
    fit = law_at(folder)
    found = {
        title: told(current(lacking, read(folder / f"rows-{what}.jsonl")), fit)
        for what, (title, lacking, _, told) in OTHERS.items()
    }
    return {title: said for title, said in found.items() if len(said.splitlines()) > HEAD}


def law_at(folder: Path) -> Fit | None:
    """The law of the runs that never grew, by the rows in this folder."""
    return law_of(
        settled(COURSES["full"], read(folder / "rows-full.jsonl")), read(folder / "rows-long.jsonl")
    )


def run(course: str, path: Path, cache: Path, until: float = math.inf) -> None:
    """Make the rows of a course that are missing."""
    given = COURSES[course]
    run_all(path, partial(pending, given), partial(made, cache=cache), given.scale, until)


if __name__ == "__main__":
    main()
