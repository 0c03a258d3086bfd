"""The one module that prints: answers on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

import typer

from isogrow.errors import IsogrowError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_BOTH_NAMES = re.compile(r"\b(\w+)(=\S*)? \(--([a-z-]+)((?: \w+)?)\)")
OK, FAILED, REFUSED, STOPPED = 0, 1, 2, 130

Data = Mapping[str, Any]

EXTRAS = {
    "plots": {"matplotlib": "matplotlib"},
    "train": {"accelerate": "accelerate", "datasets": "datasets", "pydantic": "pydantic", "yaml": "pyyaml"},
}


def answer(data: Data, view: Callable[[Data], RenderableType], as_json: bool) -> None:
    """What a verb found: as one JSON object, or as tables for people, with what to run `next`."""
    with _while_read(sys.stdout):
        if as_json:
            sys.stdout.write(json.dumps(plain(data), indent=2, allow_nan=False) + "\n")
            return
        _print(_console(sys.stdout), view(data))
        _suggest(data.get("next", ()))


@contextmanager
def _while_read(stream: TextIO) -> Generator[None]:
    """Print as long as somebody reads it: what was done stays done, and the exit code says what it was."""
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say(text: str, aside: bool = False) -> None:
    """A line on the way; `aside` of stdout, where the answer is JSON."""
    stream = sys.stderr if aside else sys.stdout
    console = _console(stream)
    with _while_read(stream):
        console.print(text, soft_wrap=not console.is_terminal)


def remark(word: str, text: str, style: str = "bold") -> None:
    """One sentence beside the answer, on stderr: `failed: float64 difference ...`."""
    from rich.text import Text

    console = _console(sys.stderr)
    console.print(Text.assemble((f"{word}: ", style), text), soft_wrap=not console.is_terminal)


def in_shell(sentence: str) -> str:
    """A sentence that names an option twice, as `allow_dead (--allow-dead)` or `engines= (--for)`, with the
    shell's name alone. Another word before an option in brackets stays.

    >>> in_shell("leave out config= (--config)"), in_shell("grow it alone (--layers)")
    ('leave out --config', 'grow it alone (--layers)')
    """
    return _BOTH_NAMES.sub(_shell_name, sentence)


def _shell_name(found: re.Match[str]) -> str:
    both = found[2] is not None or found[1].replace("_", "-") == found[3]
    return f"--{found[3]}{found[4]}" if both else found[0]


@contextmanager
def refusing(as_json: bool, stopped: str = "") -> Generator[None]:
    """Turns a refusal into one sentence on stderr and exit code 2.

    With `as_json` stdout gets it too, as `{"refused": {"kind": ..., "why": ...}}`. An interruption by
    the user exits with 130, as shells have it; `stopped` says how to go on.
    """
    try:
        yield
    except KeyboardInterrupt:
        remark("stopped", stopped or "nothing was changed")
        raise typer.Exit(STOPPED) from None
    except IsogrowError as error:
        _refuse(type(error).__name__, str(error), as_json)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        extra = next((extra for extra, names in EXTRAS.items() if missing in names), None)
        if extra is None:
            raise
        _refuse(
            "MissingModule",
            f"this needs {missing}: install {EXTRAS[extra][missing]}, or isogrow with its extra {extra!r}",
            as_json,
        )
    except BrokenPipeError:
        raise
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        _refuse("OSError", f"{about}{error.strerror or error}", as_json)


@contextmanager
def misused(as_json: bool) -> Generator[None]:
    """What the command line's parser refuses, it tells on stderr; with `as_json` stdout has it,
    too."""
    try:
        yield
    except Exception as error:
        said = getattr(error, "format_message", None)
        if as_json and said is not None:
            _answer_refused("UsageError", said())
        raise


@contextmanager
def alone(as_json: bool) -> Generator[None]:
    """The same of what one process does: of several ranks of a job the first does it, as if there were no
    others, and they end at once, with 0."""
    if not _first():
        raise typer.Exit(OK)
    from isogrow.growth.meeting import SET

    job = {name: os.environ.pop(name) for name in (*SET, "LOCAL_RANK") if name in os.environ}
    try:
        with refusing(as_json):
            yield
    finally:
        os.environ |= job


@contextmanager
def among(as_json: bool, stopped: str = "", training: bool = False) -> Generator[None]:
    """The same of what all ranks of a job do: none of them ends before the first has said it."""
    from isogrow.growth.meeting import GROWING, TRAINING, gathered

    with refusing(as_json), gathered(purpose=TRAINING if training else GROWING):
        try:
            with refusing(as_json, stopped):
                yield
        finally:
            sys.stdout.flush()  # whoever started the ranks may end all when the first of them ends


@contextmanager
def one_voice() -> Generator[None]:
    """Of several ranks of a job only the first says anything; a fault of ours is shown by all."""
    if _first():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _first() -> bool:
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def _refuse(kind: str, why: str, as_json: bool) -> None:
    why = in_shell(why)
    remark("refused", why, "bold red")
    if as_json:
        _answer_refused(kind, why)
    raise typer.Exit(REFUSED) from None


def _answer_refused(kind: str, why: str) -> None:
    answer({"refused": {"kind": kind, "why": why}}, lambda data: str(data), as_json=True)


@dataclass(frozen=True)
class Working:
    """How to tell of long work: bytes (done, total) of it, steps of it, or in words what is being done."""

    bar: Callable[[int, int], None]
    tell: Callable[[str], None]
    steps: Callable[[int, int, str], None]


@contextmanager
def working(title: str, still: bool = False) -> Generator[Working]:
    """A line on stderr that shows how far the work is, if that is a terminal; `still`: nothing moves before
    there is something to tell, so that no thread is at work until then."""
    from rich.control import Control
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.segment import ControlType
    from rich.table import Column

    console = _console(sys.stderr)
    words = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
    share = TextColumn("{task.fields[share]}", style="dim")
    columns = (SpinnerColumn(style="cyan"), words, share)
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    line = BarColumn(bar_width=32, style="dim", complete_style="cyan", finished_style="cyan")
    task = shown.add_task(title, total=None, share="")

    def bar(done: int, total: int) -> None:
        shown.start()
        shown.columns = (*columns[:2], line, share)
        text = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
        shown.update(task, completed=done, total=total, share=text)

    def tell(what: str) -> None:
        shown.start()
        shown.columns = columns
        shown.update(task, description=what, share="")

    def steps(done: int, total: int, what: str) -> None:
        shown.start()
        shown.columns = (*columns[:2], line, share)
        shown.update(
            task, description=what, completed=done, total=total, share=f"{done:,} of {total:,} steps"
        )

    if not still:
        shown.start()
    elif console.is_terminal:
        console.print(f"  {title}", end="")
        console.control(Control((ControlType.CARRIAGE_RETURN,)))
    try:
        yield Working(bar, tell, steps)
    finally:
        shown.stop()
        if still and console.is_terminal:
            console.control(Control((ControlType.ERASE_IN_LINE, 2)))


def plain(value: Any) -> Any:
    """The same data in what JSON has: a number that is not finite becomes a word ("nan", "inf").

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, 'nan']}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in cast("list[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    if hasattr(stream, "reconfigure"):
        cast("Any", stream).reconfigure(errors="replace")  # a terminal may lack an arrow
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    console.on_broken_pipe = _again
    return console


def _again() -> None:
    """What rich is to do with a pipe that nobody reads, where it would end the process: see `_while_read`."""
    raise


def _print(console: Console, shown: RenderableType) -> None:
    """Print tables; into a file or a pipe without the spaces that fill their lines."""
    if console.is_terminal:
        console.print(shown)
        return
    with console.capture() as captured:
        console.print(shown)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _suggest(lines: Iterable[str]) -> None:
    """What to run next; each is one line however long it is, to be copied."""
    from rich.text import Text

    for i, line in enumerate(lines):
        text = Text.assemble((" next  " if i == 0 else "       ", "dim"), line)
        _console(sys.stdout).print(text, soft_wrap=True)
