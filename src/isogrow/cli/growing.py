"""What `grow` and `verify` do: here torch comes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from isogrow.cli.facts import grows, summary
from isogrow.cli.voice import in_shell
from isogrow.errors import CheckpointError, SizeError, StateError
from isogrow.growth.opening import Opened, opened
from isogrow.planning.request import Planned, read_plan
from isogrow.plans.anatomy import grown_tensors
from isogrow.plans.placing import Mesh
from isogrow.plans.plan import Plan
from isogrow.plans.words import flag
from isogrow.stores.sources import Checkpoint, open_checkpoint
from isogrow.stores.staging import Told

Data = dict[str, Any]
Progress = Callable[[int, int], None]
Tell = Callable[[str], None]

# How a run goes on from what was written, by the optimizer's state that it left.
RESUMED = {
    "optimizer.pt": 'trainer.train(resume_from_checkpoint="{out}")',
    "optimizer.bin": 'accelerator.load_state("{out}")',
    "optimizer_0": 'accelerator.load_state("{out}")',
}


@dataclass(frozen=True)
class Order:
    """What is to be grown, into what, by which plan."""

    model: str
    out: Path
    source: Opened
    plan: Planned
    dtype: str | None


@dataclass(frozen=True)
class Options:
    """How the output is written."""

    max_shard_size: str
    overwrite: bool
    resume: bool
    hash_files: bool
    optimizer: str
    keep_failed: bool = False
    format: str = "safetensors"
    streamed: bool | None = None


class NotProven(Exception):
    """A check failed before the output got its name."""


def foreseen(source: Opened, plan: Plan, dtype: str | None) -> Data:
    """What `grow` would refuse of a plan, asked before a byte is written: it raises the same, and says which
    options a growth needs, and what it would leave behind."""
    from isogrow.growth.resuming import resumable
    from isogrow.interpreters.checkpoint import prepared
    from isogrow.stores.loadable import unread
    from isogrow.stores.states import left_behind

    checkpoint = source.checkpoint
    prepared(checkpoint, source.anatomy, plan, dtype)
    needs, optimizer = list[str](), "grow"
    if why := unread(checkpoint.config, checkpoint.headers):
        needs.append(f"--no-verify, since {why}")
    try:
        resumable(source, plan, optimizer, None, None)
    except StateError as error:
        needs.append(f"--optimizer drop, since {in_shell(str(error))}")
        optimizer = "drop"
    return {"needs": needs, "left": left_behind(checkpoint, optimizer, "safetensors")}


def foretold(source: Opened, planned: Planned, mesh: Mesh, optimizer_state: str) -> Data:
    """What growing a running job would cost each rank."""
    from isogrow.growth.forecasting import forecast

    found = forecast(source, dict(mesh.dims), plan=planned, optimizer_state=optimizer_state)
    return {"optimizer_state": optimizer_state, **found.to_dict()}


def grown(job: Order, options: Options, verify: bool, progress: Progress, tell: Tell, told: Told) -> Data:
    """Grow, and verify before the output appears: an output that fails does not. What memory does not hold is
    compared layer by layer, unless not even a layer fits. `told` hears what becomes of what a killed run
    left.

    Of a job's ranks the first verifies, and has the report."""
    from isogrow.growth.folders import grow_checkpoint
    from isogrow.stores.staging import failed_of
    from isogrow.stores.states import left_behind

    checkpoint = job.source.checkpoint
    data = summary(checkpoint.name, job.plan, job.dtype)
    skipped = _unproven(job, data, options.streamed) if verify else "--no-verify was given"
    report: Data | None = None

    def check(folder: Path) -> str:
        nonlocal report, skipped
        report = _report(checkpoint, open_checkpoint(folder), job.plan, options.streamed, tell)
        if failed(report):
            raise NotProven
        skipped = "; ".join(f"{c['name']} {c['detail']}" for c in report["checks"] if c["passed"] is None)
        return _sentence(report) if report["passed"] else ""

    done, unverified = True, bool(skipped)
    try:
        grow_checkpoint(
            job.source,
            job.out,
            plan=job.plan,
            dtype=job.dtype,
            max_shard_size=options.max_shard_size,
            overwrite=options.overwrite,
            resume=options.resume,
            hash_files=options.hash_files,
            keep_failed=options.keep_failed,
            optimizer=options.optimizer,
            format=options.format,
            progress=progress,
            verify=None if unverified else check,
            told=told,
        )
    except NotProven:
        done = False
    return {
        "model": checkpoint.name,
        "out": str(job.out) if done else None,
        "failed": str(failed_of(job.out)) if options.keep_failed and not done else None,
        **{name: data[name] for name in ("before", "after", "steps", "learns_by_step", "elsewhere", "seed")},
        "verification": report,
        "skipped": skipped or None,
        "left": left_behind(checkpoint, options.optimizer, options.format),
        "next": _next(job, report is None or not report["passed"], options.format) if done else [],
    }


def _unproven(job: Order, data: Data, streamed: bool | None) -> str:
    """Why the growth can't be proven here; "" if it can. Raises `CheckpointError` where it could nowhere."""
    from isogrow.stores.loadable import unread

    checkpoint, skipped = job.source.checkpoint, _too_large(job, data, streamed)
    if not skipped and (why := unread(checkpoint.config, checkpoint.headers)):
        raise CheckpointError(f"{why}; nothing was written: --no-verify writes it unproven")
    return skipped


def _too_large(job: Order, data: Data, streamed: bool | None) -> str:
    """Why the output can't be compared with the model in this machine's memory; "" if it can."""
    from isogrow.verification.memory import largest_layer, shortage, streaming_shortage

    lack = "" if streamed else shortage(*(data[side]["parameters"] for side in ("before", "after")))
    if not lack:
        return ""
    anatomy, plan = job.source.anatomy, job.plan.plan
    tensors = [anatomy.stored, grown_tensors(anatomy, plan)]
    return streaming_shortage(
        *(largest_layer({each.name: each.header.shape for each in stored}) for stored in tensors)
    )


def adapted(adapter: str, out: Path, base: str, overwrite: bool, more: bool) -> Data:
    """An adapter grown with its base; `more`: options were given that say what the base's plan says."""
    from isogrow.growth.adapters import grow_adapter

    if more:
        raise SizeError(
            "--base takes all of a growth from the grown base's isogrow.json: leave out what says how to"
            " grow, and every other option but --overwrite and --json"
        )
    plan = grow_adapter(adapter, out, base=base, overwrite=overwrite)
    steps = list(map(grows, plan.steps, plan.stages, plan.stages[1:]))
    load = f'peft.PeftModel.from_pretrained(transformers.AutoModel….from_pretrained("{base}"), "{out}")'
    return {"adapter": adapter, "base": base, "out": str(out), "steps": steps, "next": [load]}


def verified(
    model: str,
    grown: str,
    plan: str | None,
    revision: str | None,
    config: str | None,
    streamed: bool | None,
    tell: Tell,
) -> Data:
    """The checks of a pair of models."""
    made = None if plan is None else read_plan(plan, flag("plan"))
    return _report(open_checkpoint(model, revision, config), open_checkpoint(grown), made, streamed, tell)


def compared(
    model: str,
    grown: str,
    plan: str | None,
    revision: str | None,
    config: str | None,
    progress: Progress,
) -> Data:
    """The same, by bytes alone."""
    from isogrow.growth.comparing import compare_bytes

    made = None if plan is None else read_plan(plan, flag("plan"))
    found = compare_bytes(opened(model, revision, config), grown, plan=made, progress=progress)
    count = sum(fault.count for fault in found.faults)
    check = {"name": "bytes", "passed": found.passed, "value": count, "limit": 0, "detail": str(found)}
    return {"passed": found.passed, "checks": [check], "figures": {"bytes": found.size}}


def carried(adapter: str, grown: str, base: str | None, small: str | None, more: bool, tell: Tell) -> Data:
    """The same of an adapter that grew with its base; `more`: options were given beside that mean models."""
    from isogrow.verification.adapters import verify_adapter

    if more or base is None:
        raise SizeError(
            "two adapters are compared on their bases, --base the grown one (and --small the other): give no"
            " other option but --json"
        )
    return verify_adapter(adapter, grown, base=base, small=small, progress=tell).to_dict()


def elsewhere(engine: str, model: str, grown: str, revision: str | None, more: bool, tell: Tell) -> Data:
    """The same, as an engine computes both; `more`: options were given beside that it can't follow."""
    from isogrow.verification.elsewhere.proof import verify_in

    if more:
        raise SizeError(
            "--engine has the engine read both folders as they are: leave out --plan, --bytes, --streamed"
            " and --config"
        )
    return verify_in(engine, opened(model, revision), grown, progress=tell).to_dict()


def failed(report: Data | None) -> list[Data]:
    """The checks that failed; none where they were made by another rank."""
    return [] if report is None else [check for check in report["checks"] if check["passed"] is False]


def _report(
    small: Checkpoint, large: Checkpoint, plan: Planned | Plan | None, streamed: bool | None, tell: Tell
) -> Data:
    from isogrow.verification import verify

    return verify(small, large, plan=plan, streamed=streamed, progress=tell).to_dict()


def _sentence(report: Data) -> str:
    """What the model card says of the checks."""
    passed = [check for check in report["checks"] if check["passed"]]
    exact = next(check for check in passed if check["name"] == "float64")
    return (
        f"`isogrow verify` passed {len(passed)} checks; in float64 the outputs of the two models differ by"
        f" a relative {exact['value']:.1e} at most."
    )


def _next(job: Order, unverified: bool, format: str) -> list[str]:
    """What to run now."""
    from isogrow.stores.asking import opener_of

    model, out = quote(job.model), quote(str(job.out))
    kind = opener_of(job.source.checkpoint.config) or "AutoModel"
    load = f'transformers.{kind}.from_pretrained("{job.out}")'
    if format == "distributed":
        load = f'torch.distributed.checkpoint.load(state_dict, checkpoint_id="{job.out}")'
    resumes = [go_on.format(out=job.out) for name, go_on in RESUMED.items() if (job.out / name).exists()]
    return [
        *([f"isogrow verify {model} {out}"] if unverified else []),
        load,
        *resumes,
    ]
