"""The command line: `isogrow inspect | plan | grow | verify | draft | families | demo`.

    verbs.py      the verbs
    options.py    the options that verbs share, as typer reads them
    asking.py     from options to a plan
    facts.py      what inspect and plan tell, as data
    growing.py    grow and verify
    drafting.py   draft, and layouts that are given as files
    tables/       what the verbs tell, as tables
    voice.py      the one module that prints

Exit codes: 0 all of it is true, 1 a check failed, 2 the request was refused. Nothing here imports torch
before a verb needs it.
"""

from __future__ import annotations

from isogrow.cli.verbs import app
from isogrow.cli.voice import one_voice


def main() -> None:
    """Run the command line on the process's arguments, and exit. Of a job's ranks the first one speaks."""
    with one_voice():
        app(prog_name="isogrow")


__all__ = ["app", "main"]
