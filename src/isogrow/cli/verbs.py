"""The verbs. What a verb needs is imported when it runs, so that `--help` is instant."""

from __future__ import annotations

import gc
from functools import partial
from shlex import quote
from typing import Annotated, Any

import typer

from isogrow.cli.options import (
    OUTPUT,
    SHARDED,
    WHERE,
    Asked,
    Base,
    Configured,
    Dtype,
    Engine,
    Format,
    GrownBase,
    Json,
    LayoutFile,
    Model,
    Overwrite,
    Revision,
    SmallBase,
    Streamed,
    Verb,
    Verbs,
    option,
    requesting,
)
from isogrow.cli.voice import FAILED, alone, among, answer, remark, say, working
from isogrow.errors import FamilyError
from isogrow.paths import expanded

app = typer.Typer(
    name="isogrow",
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from isogrow import __version__

        say(f"isogrow {__version__}")
        raise typer.Exit


@app.callback()
def isogrow(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Grow trained transformers without changing what they compute.

    Exit code 0: all of it is true. 1: a check failed. 2: the request was refused.
    """


@app.command(cls=Verb)
def inspect(
    model: Model,
    new: Annotated[bool, option("--new", "Of a grown model: which entries are new.")] = False,
    plan: Annotated[
        str | None, option("--plan", "With --new: the plan. (default: MODEL's isogrow.json)", WHERE, "FILE")
    ] = None,
    revision: Revision = None,
    config: Configured = None,
    json: Json = False,
) -> None:
    """A model's sizes, and what each of them can grow to.

    Where it can't grow, or not to any size, the reason stands beside it. With --new it says instead what of a
    grown model is new, tensor by tensor, and whether old caches of keys and values are still valid.
    """
    with alone(json):
        from isogrow.cli.asking import led
        from isogrow.cli.facts import inspected, news
        from isogrow.cli.tables.axes import inspection
        from isogrow.cli.tables.plans import newness
        from isogrow.growth.opening import opened

        found = opened(model, revision, config)
        if new or plan is not None:
            answer(news(found.checkpoint.name, found.anatomy, led(found, plan, new)), newness, json)
            return
        with working("asking what it can grow to"):
            data = inspected(found.checkpoint, found.anatomy)
        answer(data, inspection, json)


@app.command(cls=Verb)
@requesting
def plan(
    model: Model,
    asked: Asked,
    out: Annotated[str | None, option("--out", "Write the plan to this file.", OUTPUT, "PLAN.json")] = None,
    dtype: Dtype = None,
    ranks: Annotated[
        int | None, option("--ranks", "Tell what growing a job of N ranks would cost each.", SHARDED, "N")
    ] = None,
    mesh: Annotated[
        str | None,
        option(
            "--mesh", "How they hold it: fsdp=32,tp=2, and replicate. (default: fsdp=N)", SHARDED, "DIM=N,…"
        ),
    ] = None,
    optimizer_state: Annotated[
        str | None, option("--optimizer-state", "adamw or none. (default: adamw)", SHARDED, "KIND")
    ] = None,
    overwrite: Overwrite = False,
    layout: LayoutFile = None,
    revision: Revision = None,
    config: Configured = None,
    json: Json = False,
) -> None:
    """What growing would do: steps, sizes, bytes, memory.

    No weight is read: config.json and the tensors' names and shapes say all of it. With --ranks or --mesh it
    also tells what growing a running, sharded job would cost each rank.
    """
    with alone(json):
        from isogrow.cli.asking import planned, spread, written
        from isogrow.cli.drafting import source
        from isogrow.cli.facts import summary
        from isogrow.cli.growing import foreseen, foretold
        from isogrow.cli.tables import plans

        gc.freeze()  # what was imported stays: no search for garbage among a model's tensors walks it again
        over = spread(ranks, mesh, optimizer_state)
        with working("opening") as work:
            found = source(model, revision, config, layout, work.tell)
        made = planned(asked, found.anatomy)
        data = summary(found.checkpoint.name, made, dtype) | foreseen(found, made.plan, dtype)
        if over is not None:
            with working("counting what each rank would read, send and hold"):
                data |= {"sharded": foretold(found, made, *over)}
        then: list[str] = []
        if out is not None:
            written(made.plan, expanded(out), found.checkpoint.folder, overwrite)
            then = [f"isogrow grow {quote(model)} OUT --plan {quote(out)}"]
        answer({**data, "out": out, "next": then}, plans.planned, json)


@app.command(cls=Verb)
@requesting
def grow(
    model: Model,
    out: Annotated[str, typer.Argument(metavar="OUT", help="The folder to write.")],
    asked: Asked,
    dtype: Dtype = None,
    max_shard_size: Annotated[
        str, option("--max-shard-size", "Largest file of weights. (default: 5GB)", OUTPUT, "BYTES")
    ] = "5GB",
    overwrite: Overwrite = False,
    resume: Annotated[bool, option("--resume", "Go on with what a killed run left.", OUTPUT)] = False,
    hash_files: Annotated[bool, option("--hash", "Record the sha256 of every file.", OUTPUT)] = False,
    no_verify: Annotated[bool, option("--no-verify", "Don't prove the result.", OUTPUT)] = False,
    keep_failed: Annotated[
        bool, option("--keep-failed", "Keep an output that fails its proof, as OUT.failed.", OUTPUT)
    ] = False,
    optimizer: Annotated[
        str,
        option("--optimizer", "A Trainer's optimizer.pt: grow, or drop. (default: grow)", OUTPUT, "WHAT"),
    ] = "grow",
    format: Format = "safetensors",
    streamed: Streamed = False,
    layout: LayoutFile = None,
    base: Base = None,
    revision: Revision = None,
    config: Configured = None,
    json: Json = False,
) -> None:
    """Grow a model into a new folder, and prove it unchanged.

    Of a Trainer's checkpoint the optimizer's state grows too, so that the run goes on from OUT. With --base
    GROWN an adapter of PEFT's grows into one for the grown model. Under torchrun
    (torchrun --nproc-per-node N -m isogrow grow …) every rank writes its share.
    """
    if base is not None:
        given = (asked != Asked(), dtype, resume, hash_files, keep_failed, revision, config, streamed, layout)
        given = (*given, no_verify, optimizer != "grow", format != "safetensors", max_shard_size != "5GB")
        _grow_adapter(model, out, base, overwrite, any(given), json)
        return
    with among(json, f"{out} is not written; the same command with --resume goes on where it stopped"):
        from isogrow.cli import growing
        from isogrow.cli.asking import alone_of, planned
        from isogrow.cli.drafting import source
        from isogrow.cli.tables import checks
        from isogrow.growth.meeting import together

        options = growing.Options(
            max_shard_size, overwrite, resume, hash_files, optimizer, keep_failed, format, streamed or None
        )
        alone_of("--no-verify", no_verify, {"--keep-failed": keep_failed, "--streamed": streamed})
        with together():
            with working("opening") as work:
                found = source(model, revision, config, layout, work.tell)
            made = planned(asked, found.anatomy)
            job = growing.Order(model, expanded(out), found, made, dtype)
            with working("growing", still=True) as work:
                data = growing.grown(job, options, not no_verify, work.bar, work.tell, remark)
        answer(data, checks.grown, json)
        if data["out"] is None:
            _fail(growing.failed(data["verification"]))


def _grow_adapter(adapter: str, out: str, base: str, overwrite: bool, more: bool, json: bool) -> None:
    """An adapter grown with its base; `more`: options were given beside."""
    with alone(json):
        from isogrow.cli import growing
        from isogrow.cli.tables import checks

        with working("growing"):
            data = growing.adapted(adapter, expanded(out), base, overwrite, more)
        answer(data, checks.adapted, json)


@app.command(cls=Verb)
def verify(
    model: Model,
    grown: Annotated[str, typer.Argument(metavar="GROWN", help="What was grown from it.")],
    plan: Annotated[
        str | None, option("--plan", "The plan. (default: GROWN's isogrow.json)", WHERE, "FILE")
    ] = None,
    streamed: Streamed = False,
    by_bytes: Annotated[
        bool, option("--bytes", "Compare every byte with what the plan makes; no model runs.")
    ] = False,
    engine: Engine = None,
    base: GrownBase = None,
    small: SmallBase = None,
    layout: LayoutFile = None,
    revision: Revision = None,
    config: Configured = None,
    json: Json = False,
) -> None:
    """Prove that a grown model is unchanged and can learn.

    With --bytes: that every byte of it is what its plan makes of MODEL. That needs little memory, and runs as
    fast as the disk. With --engine: that it computes what MODEL does in another engine, installed here.
    With --base: that an adapter grew with its base, by PEFT.
    """
    with alone(json):
        from isogrow.cli import growing
        from isogrow.cli.asking import alone_of
        from isogrow.cli.drafting import source
        from isogrow.cli.tables import checks

        with working("verifying") as work:
            if layout is not None:
                source(model, revision, config, layout, work.tell)
            if base is not None or small is not None:
                given = (plan, by_bytes, streamed, config, engine, revision)
                data = growing.carried(model, grown, base, small, any(given), work.tell)
            elif engine is not None:
                given = (plan, by_bytes, streamed, config)
                data = growing.elsewhere(engine, model, grown, revision, any(given), work.tell)
            elif by_bytes:
                alone_of("--bytes", by_bytes, {"--streamed": streamed})
                data = growing.compared(model, grown, plan, revision, config, work.bar)
            else:
                data = growing.verified(model, grown, plan, revision, config, streamed or None, work.tell)
        answer(data, checks.verified, json)
        if not data["passed"]:
            _fail(growing.failed(data) or data["checks"][:1])


@app.command(cls=Verb)
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE.yaml", help="Model, data, training and stages.")],
    dry_run: Annotated[bool, option("--dry-run", "Check it, and tell stage by stage what it costs.")] = False,
    json: Json = False,
) -> None:
    """Train in stages, growing between them.

    A killed run goes on where it stopped. Paths in the recipe are relative to its own folder. Under torchrun
    (torchrun --nproc-per-node N -m isogrow train …) every rank learns its share of each batch, and a run goes
    on with any number of ranks.
    """
    on = "the same command goes on from the last checkpoint"
    with alone(json) if dry_run else among(json, on, training=True):
        from isogrow.cli import growing, training
        from isogrow.cli.tables import trainings

        with working("reading the recipe") as work:
            if dry_run:
                data = training.outlook(expanded(recipe), work.tell)
            else:
                data = training.trained(expanded(recipe), work.tell, work.steps)
        answer(data, trainings.outlook if dry_run else trainings.trained, json)
        if not dry_run and (failed := growing.failed(data)):
            _fail(failed)


@app.command(cls=Verb)
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run of `train`.")],
    out: Annotated[str | None, option("--out", "Page. (default: RUN/report.html)", OUTPUT, "FILE")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """A run's curves, stages and growths as one HTML page."""
    with alone(json):
        from isogrow.cli.tables import trainings
        from isogrow.recipes.report import report as page

        with working("drawing"):
            path = page(run, out, overwrite)
        answer({"page": str(path)}, trainings.reported, json)


@app.command(cls=Verb)
def draft(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL_TYPE|FOLDER", help="A model type, or a model's folder; with --check several types."
        ),
    ] = None,
    out: Annotated[str | None, option("--out", "Write the layout to this file.", OUTPUT, "FILE")] = None,
    overwrite: Overwrite = False,
    check: Annotated[
        bool, option("--check", "Draft what is built in (or each MODEL_TYPE) again, and say what changed.")
    ] = False,
    json: Json = False,
) -> None:
    """A layout from the model itself, proven on a small twin of it.

    It is written as family files are written, to be read; `grow --layout FILE` grows by it after its proof.
    """
    with alone(json):
        from isogrow.cli.drafting import checked, drafted
        from isogrow.cli.tables import drafts

        named = models or []
        if len(named) != 1 and not check:
            said = f"{len(named)} models are" if named else "no model is"
            raise FamilyError(f"{said} named: give a model type, like qwen3, or a folder; or --check")
        with working("drafting") as work:
            data = checked(named, work.tell) if check else drafted(named[0], out, overwrite)
        answer(data, drafts.checked if check else drafts.drafted, json)
        if data["changed"] if check else not data["proven"]:
            raise typer.Exit(FAILED)


@app.command(cls=Verb)
def families(
    types: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL_TYPE", help="Of these alone. (default: all)")
    ] = None,
    json: Json = False,
) -> None:
    """The model types that can be grown, and along which axes."""
    with alone(json):
        from isogrow.cli.facts import known
        from isogrow.cli.tables import axes

        answer(known(types or ()), axes.families, json)


@app.command(cls=Verb)
def demo(
    out: Annotated[
        str, option("--out", "Where to work. (default: isogrow-demo)", OUTPUT, "DIR")
    ] = "isogrow-demo",
    offline: Annotated[bool, option("--offline", "Train a small model instead of fetching two.")] = False,
    json: Json = False,
) -> None:
    """Two real models: grown, proven unchanged, trained on.

    It takes a few minutes on two cores.
    """
    with alone(json):
        from isogrow.cli.tables import checks
        from isogrow.demo import run

        result = run(expanded(out), partial(say, aside=json), offline)
        answer({**result.to_dict(), "folder": out}, checks.ending, json)
        if not result.passed:
            raise typer.Exit(FAILED)


def _fail(checks: list[dict[str, Any]]) -> None:
    """Exit with 1, naming the checks that failed (or the one that could not be made)."""
    for check in checks:
        said = f"{check['name']}: {check['detail']}" if check["detail"] else check["name"]
        remark("failed" if check["passed"] is False else "not proven", said, "bold red")
    raise typer.Exit(FAILED)
