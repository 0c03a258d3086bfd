"""What a user may ask of a growth, said once: as keywords in Python, as options in the shell.

    Request(sizes={"ffn": "x2", "layers": "+1"}, seed=7).plan(anatomy)

The sizes are given one by one, or by expansions, or they are a sibling's (`to`), or a plan that is there
already says all of it (`saved`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from isogrow.errors import SizeError
from isogrow.laws import check
from isogrow.paths import expanded
from isogrow.planning.planner import check_fits, unchecked
from isogrow.planning.portable import check_portable, choices_of, engines_of
from isogrow.planning.sibling import Sibling, check_reached, sizes_of
from isogrow.plans.anatomy import Anatomy
from isogrow.plans.expansions import At, Expansion, Size, expansions
from isogrow.plans.plan import Init, Plan
from isogrow.plans.regions import Fitting, Initializer, check_plan, name_of, naming
from isogrow.plans.serial import RECORD, PlanError, from_json
from isogrow.plans.words import Say, addressed, alone, keyword
from isogrow.stores.sources import read_json

Kind = str | Initializer | Fitting
Std = float | Literal["match"]
Engines = str | Sequence[str] | None


@dataclass(frozen=True)
class Planned:
    """A plan that keeps the laws on a model, and the backward pass by which all of it has had gradient."""

    anatomy: Anatomy
    plan: Plan
    learns_by: int


Saved = Planned | Plan | Mapping[str, Any] | str | Path


class Said(TypedDict, total=False):
    """The keywords of `grow`, `grow_training`, `grow_`, `grow_checkpoint` and `plan`, as `Request` has them.

    A size that a stack has of its own is said with the stack's name before it.
    """

    hidden: Size
    ffn: Size
    expert_ffn: Size
    shared_ffn: Size
    q_rank: Size
    kv_rank: Size
    state_width: Size
    state_dim: Size
    dt_rank: Size
    taps: Size
    heads: Size
    kv_heads: Size
    head_dim: Size
    key_dim: Size
    value_dim: Size
    layers: Size
    encoder_layers: Size
    decoder_layers: Size
    text_layers: Size
    vision_layers: Size
    layers_at: At
    to: Sibling | None
    plan: Saved | None
    init: Kind
    init_std: Std
    seed: int
    allow_dead: bool
    engines: Engines


@dataclass(frozen=True)
class Request:
    """How a model is to grow; what is None is not said.

    `sizes` by name (768, "+4" or "x2"), or `expansions` in their order, or `to`: the config of a larger
    sibling (its path, or a mapping), or `saved`: a plan, its file, or the folder of a model that was grown by
    it. `layers_at` says where new layers go: "end", "start", "even", or the old layer that each goes before.

    New weights that the laws leave free are drawn by `init` ("normal", "uniform", "copy", "orthogonal", or a
    function of an `isogrow.Region`) with `init_std` (a number, or "match": that of what they extend, or of a
    sample of it, where it has more than 524,288 entries), from `seed`. `allow_dead` allows new parts that
    could never learn. `engines` are those in which the grown model is to be right too (`isogrow.engines`):
    what they don't follow stays as it is, and what they can't have is refused. `say` is how the asker writes
    a name.
    """

    sizes: Mapping[str, Size] = field(default_factory=dict[str, Size])
    expansions: tuple[Expansion, ...] = ()
    layers_at: At | None = None
    to: Sibling | None = None
    saved: Saved | None = None
    init: Kind | None = None
    init_std: Std | None = None
    seed: int | None = None
    allow_dead: bool = False
    engines: Engines = None
    say: Say = field(default=keyword, compare=False, repr=False)

    @property
    def kind(self) -> Kind:
        """How new weights are drawn."""
        return "normal" if self.init is None else self.init

    def plan(self, anatomy: Anatomy) -> Plan:
        """The plan that is meant for this model, with both laws checked.

        Raises `SizeError` for a request that contradicts itself, or that this model can't have, `LawError`
        for a plan that breaks a law.
        """
        return self.planned(anatomy).plan

    def planned(self, anatomy: Anatomy) -> Planned:
        """The plan, and when all of it learns; one that was checked for this model is not checked again."""
        if isinstance(self.saved, Planned) and self.saved.anatomy is anatomy:
            self._check_alone()
            return self.saved
        with naming(self.kind) as kind:
            made = self._made(anatomy, kind) if self.saved is None else self._read(anatomy)
            return Planned(anatomy, made, check(anatomy, made, self.allow_dead))

    def _made(self, anatomy: Anatomy, kind: str) -> Plan:
        sizes = self._sizes(anatomy)
        layers = any(addressed(name)[1] == "layers" for name in sizes)
        if self.layers_at is not None and not layers:
            where, give = self.say("layers_at"), self.say("layers")
            raise SizeError(f"{where} says where new layers go, and there are none: give {give} too")
        init = Init(kind, "match" if self.init_std is None else self.init_std)
        engines = engines_of(self.engines)
        choices = choices_of(anatomy, engines)

        def drafted(sizes: Mapping[str, Size], at: At | None) -> Plan:
            own = expansions(sizes, "end" if at is None else at, alone(anatomy.sizes))
            wanted = (*self.expansions, *own)
            return unchecked(anatomy, wanted, init, 0 if self.seed is None else self.seed, choices)

        def again(sizes: Mapping[str, Size], at: At | None) -> Plan:
            return drafted(sizes, self.layers_at if at is None else at)

        made = drafted(sizes, self.layers_at)
        if self.to is not None:
            check_reached(anatomy, made, self.to, self.say)
        check_portable(anatomy, made, engines, None if self.expansions else again)
        return made

    def _sizes(self, anatomy: Anatomy) -> Mapping[str, Size]:
        """The sizes that are given, or the sibling's. Raises `SizeError` for both, and for none."""
        given = list(self._given_sizes())
        if self.to is not None:
            if given:
                raise SizeError(
                    f"{self.say('to')} gives every size: leave out {', '.join(given)}, or {self.say('to')}"
                )
            return sizes_of(anatomy, self.to, self.say("to"))
        if not given:
            raise SizeError(
                f"no size is given, so there is nothing to grow: give one, like {self.say('ffn', 'x2')}, or"
                f" {self.say('to')} or {self.say('plan')} (`isogrow inspect MODEL` shows what the model can"
                " grow to)"
            )
        return self.sizes

    def _read(self, anatomy: Anatomy) -> Plan:
        self._check_alone()
        made = read_plan(self.saved, self.say("plan"))
        check_fits(anatomy, made)
        check_plan(made)
        return made

    def _check_alone(self) -> None:
        """A plan says all but what a function of the user's means, which it only names."""
        said = {
            "layers_at": self.layers_at,
            "to": self.to,
            "init": self.init if isinstance(self.init, str) else None,
            "init_std": self.init_std,
            "seed": self.seed,
            "engines": self.engines or None,
        }
        given = [*self._given_sizes(), *(self.say(name) for name, value in said.items() if value is not None)]
        if given:
            plan = self.say("plan")
            raise SizeError(f"{plan} says everything itself: leave out {', '.join(given)}, or {plan}")

    def _given_sizes(self) -> Iterator[str]:
        """The sizes and expansions that are given, as the asker writes them."""
        yield from (self.say(name) for name in self.sizes)
        yield from (type(each).__name__ for each in self.expansions)


def requested(given: tuple[Expansion, ...], said: Mapping[str, Any]) -> Request:
    """The request that positional arguments and keywords of Python make: what is no other keyword is a size.

    Raises `SizeError` for a positional argument that is no expansion, and for an `init` that is none.

    >>> requested((), {"ffn": "x2", "seed": 7}).sizes
    {'ffn': 'x2'}
    """
    stray = [each for each in given if not isinstance(each, Expansion)]  # pyright: ignore[reportUnnecessaryIsInstance]
    if stray:
        raise SizeError(
            f"{stray[0]!r:.60} is no expansion: give sizes by name (ffn='x2'), or expansions"
            " (isogrow.MlpExpansion('x2'))"
        )
    if not isinstance(said.get("init", ""), str):
        name_of(said["init"])  # None would be taken for what is not said
    own = {name: said[name] for name in OWN if name in said}
    sizes = {name: size for name, size in said.items() if name not in (*OWN, "plan")}
    return Request(sizes, given, saved=said.get("plan"), **own)


def check_grows(plan: Plan) -> None:
    """Raises `SizeError` for a plan that grows nothing, whose output would be a copy."""
    if not plan.steps:
        raise SizeError("the model has these sizes already, so there is nothing to grow: give larger ones")


# The keywords that are no sizes; a plan is `saved` in a request.
OWN = ("layers_at", "to", "init", "init_std", "seed", "allow_dead", "engines")


def read_plan(saved: object, name: str = "plan=") -> Plan:
    """A plan, however it is given: itself, as JSON, or the file or grown folder that holds it.

    Raises `CheckpointError` for a file that is not there, `PlanError` for one that holds none, `SizeError`
    for what is no plan.
    """
    if isinstance(saved, Plan | Planned):
        return saved if isinstance(saved, Plan) else saved.plan
    if isinstance(saved, Mapping):
        return from_json(cast("Mapping[str, Any]", saved))
    if not isinstance(saved, str | Path):
        raise SizeError(
            f"{name} is given {saved!r:.60}, which is no isogrow.Plan: give one, its JSON, or the file or"
            " grown folder that holds it"
        )
    path = expanded(saved)
    path = path / RECORD if path.is_dir() else path
    record = f"no plan is known without it: name the one by which the model was grown ({name})"
    return plan_in(path, record if path.name == RECORD else f"{name} names it")


def plan_in(path: Path, otherwise: str) -> Plan:
    """The plan in a file; `otherwise` says why it must be there.

    Raises `CheckpointError` for a file that is not there, `PlanError` for one that holds none.
    """
    own = "give a file that `isogrow plan --out` wrote, or the folder of a grown model"
    try:
        return from_json(read_json(path, otherwise, own))
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error
