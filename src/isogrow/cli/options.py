"""The options that verbs share, as typer reads them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from isogrow.cli.voice import misused
from isogrow.errors import SizeError
from isogrow.plans.expansions import Size
from isogrow.plans.plan import KINDS, LARGEST_STD
from isogrow.plans.words import MLPS, WORDS, addressed, flag

if TYPE_CHECKING:
    from isogrow.planning.request import Request

SIZES, NEW, WHERE, OUTPUT = "Sizes: 768, +4 or x2", "New weights", "Where the sizes come from", "Output"
JSON = "isogrow.json"  # of what is noted about a command line: whether it asks for JSON
SHARDED = "In a sharded job"
AXES = ("hidden", *MLPS, "heads", "kv_heads", "head_dim", "key_dim", "value_dim", "layers")


def option(name: str, words: str, panel: str = "Options", metavar: str | None = None) -> Any:
    """An option of a verb with its help, in a panel of `--help`."""
    return typer.Option(name, help=words, rich_help_panel=panel, metavar=metavar, show_default=False)


def axis(name: str, words: str) -> Any:
    """An option that takes a size."""
    return option(name, words, SIZES, "SIZE")


Model = Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder, or a Hub id.")]
Json = Annotated[bool, option("--json", "Answer in JSON, on stdout alone.")]
Revision = Annotated[str | None, option("--revision", "Branch, tag or commit of a Hub id.", metavar="REV")]
Configured = Annotated[
    str | None,
    option("--config", "A config.json, or its folder, for weights without one.", metavar="FILE"),
]
Dtype = Annotated[
    str | None,
    option("--dtype", "float32, float16, bfloat16 or float64. (default: keep)", OUTPUT, "DTYPE"),
]
Streamed = Annotated[
    bool,
    option("--streamed", "Prove it layer by layer, in little memory. (default: where memory is short)"),
]
LayoutFile = Annotated[
    str | None,
    option("--layout", "Grow by the layout in this file, which is proven first.", WHERE, "FILE"),
]
Format = Annotated[
    str,
    option("--format", "safetensors, or distributed (torch's DCP). (default: safetensors)", OUTPUT, "FORMAT"),
]
Base = Annotated[
    str | None,
    option("--base", "MODEL is an adapter (LoRA): grow it for this grown base.", WHERE, "GROWN"),
]
GrownBase = Annotated[
    str | None,
    option("--base", "MODEL and GROWN are adapters (LoRA): the base of the grown one.", WHERE, "LARGE"),
]
SmallBase = Annotated[
    str | None,
    option("--small", "With --base: the base of the small one. (default: as it names)", WHERE, "SMALL"),
]
Engine = Annotated[
    str | None,
    option(
        "--engine", "Compare both in this engine: ctranslate2, mlx, keras-hub, openvino, …", metavar="ENGINE"
    ),
]
Overwrite = Annotated[bool, option("--overwrite", "Replace what is there.", OUTPUT)]


@dataclass(frozen=True)
class Asked:
    """What is to be grown and how new weights are filled: the options of `plan` and `grow`, as text."""

    hidden: Annotated[str | None, axis("--hidden", "Width of the residual stream.")] = None
    ffn: Annotated[str | None, axis("--ffn", "Inner width of the MLP.")] = None
    expert_ffn: Annotated[
        str | None,
        axis("--expert-ffn", "Inner width of each expert, where --ffn is that of dense layers."),
    ] = None
    shared_ffn: Annotated[str | None, axis("--shared-ffn", "Inner width of the shared expert.")] = None
    heads: Annotated[
        str | None, axis("--heads", "Query heads; alone, it widens every key/value head's group.")
    ] = None
    kv_heads: Annotated[str | None, axis("--kv-heads", "Key/value heads, each with a group.")] = None
    head_dim: Annotated[str | None, axis("--head-dim", "Key and value dim of each head.")] = None
    key_dim: Annotated[str | None, axis("--key-dim", "Dim in which queries meet keys.")] = None
    value_dim: Annotated[str | None, axis("--value-dim", "Dim of a head's values.")] = None
    layers: Annotated[str | None, axis("--layers", "Layers.")] = None
    size: Annotated[
        list[str] | None,
        option(
            "--size",
            "Any axis by its name, or a stack's: encoder.layers=8; may be repeated.",
            SIZES,
            "AXIS=SIZE",
        ),
    ] = None
    layers_at: Annotated[
        str | None,
        option(
            "--layers-at",
            "end, start, even, or the old layer that each new one goes before: 3,7,11. (default: end)",
            SIZES,
            "PLACE",
        ),
    ] = None
    to: Annotated[
        str | None,
        option("--to", "Grow into this larger sibling: its config.json.", WHERE, "CONFIG.json"),
    ] = None
    engines: Annotated[
        list[str] | None,
        option(
            "--for",
            "Only what these engines compute right: ctranslate2, llama.cpp, mlx, tp=8, …; may be repeated.",
            WHERE,
            "ENGINE,…",
        ),
    ] = None
    plan: Annotated[str | None, option("--plan", "Run this plan (or a grown model's).", WHERE, "FILE")] = None
    init: Annotated[
        str | None,
        option("--init", "normal, uniform, copy or orthogonal. (default: normal)", NEW, "KIND"),
    ] = None
    init_std: Annotated[
        str | None,
        option(
            "--init-std",
            "A number, or match: that of the tensor that a block extends. (default: match)",
            NEW,
            "STD",
        ),
    ] = None
    seed: Annotated[int | None, option("--seed", "Of the new weights. (default: 0)", NEW, "N")] = None
    allow_dead: Annotated[bool, option("--allow-dead", "Allow new parts that could never learn.", NEW)] = (
        False
    )

    def sizes(self) -> dict[str, Size]:
        """The sizes by axis; a `SizeError` for one that is given twice or not as AXIS=SIZE."""
        found: dict[str, Size] = {
            axis: getattr(self, axis) for axis in AXES if getattr(self, axis) is not None
        }
        for text in self.size or ():
            axis, equals, wanted = text.partition("=")
            axis = axis.strip().replace("-", "_")
            if not equals or not axis or not wanted.strip():
                raise SizeError(f"--size {text!r} can't be read: give AXIS=SIZE, like ffn=2048")
            if axis in found:
                raise SizeError(f"{axis} is given twice, {found[axis]} and {wanted}: give it once")
            found[axis] = wanted.strip()
        return found

    def request(self) -> Request:
        """What is meant by them. Raises `SizeError` for what can't be read."""
        from isogrow.planning.request import Request  # --help needs none of it

        return Request(
            self.sizes(),
            layers_at=self.place,
            to=self.to,
            saved=self.plan,
            init=self.kind,
            init_std=self.std,
            seed=self.seed,
            allow_dead=self.allow_dead,
            engines=tuple(self.engines) if self.engines else None,
            say=flag,
        )

    @property
    def place(self) -> str | tuple[int, ...] | None:
        """Where new layers go."""
        if self.layers_at is None:
            return None
        parts = [part.strip() for part in self.layers_at.split(",")]
        numbers = all(part.isdecimal() and len(part) < 10 for part in parts)
        return tuple(map(int, parts)) if numbers else self.layers_at

    @property
    def kind(self) -> str | None:
        """How free weights are drawn."""
        if self.init is not None and self.init not in KINDS:
            raise SizeError(f"--init {self.init!r} is not known: give one of {', '.join(KINDS)}")
        return self.init

    @property
    def std(self) -> float | Literal["match"] | None:
        """The std of free weights."""
        if self.init_std is None or self.init_std == "match":
            return self.init_std
        try:
            value = float(self.init_std)
        except ValueError:
            value = -1.0
        if not 0.0 < value <= LARGEST_STD:
            raise SizeError(
                f"--init-std {self.init_std!r} is no std: give match, or a number above 0, up to 1000"
            )
        return value


class Verbs(TyperGroup):
    """All verbs: what can't be read of a command line that asks for JSON is refused in JSON, too."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        as_json = "--json" in args
        with misused(as_json):
            made = super().make_context(info_name, args, parent, **extra)
        made.meta[JSON] = as_json
        return made

    def invoke(self, ctx: Any) -> Any:
        with misused(ctx.meta[JSON]):
            return super().invoke(ctx)


class Verb(TyperCommand):
    """A command whose help lists its options by panel, as plain text: rich would take as long to import
    as all else together."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The same; where a verb has sizes, what is said of an unknown option names them."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            sizes = [p.opts[0] for p in self.get_params(ctx) if getattr(p, "rich_help_panel", "") == SIZES]
            if sizes and hasattr(error, "possibilities"):
                unknown: Any = error
                name = str(unknown.option_name).lstrip("-").replace("-", "_")
                known = all(addressed(name)) and addressed(name)[1] in WORDS
                own = f"a stack's size is --size {name}=…" if known else f"sizes are {', '.join(sizes)}"
                unknown.message += f" ({own})"
                unknown.possibilities = [] if known else unknown.possibilities
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            argument = parameter.param_type_name == "argument"
            panel = getattr(parameter, "rich_help_panel", None) or "Options"
            if record is not None:
                panels.setdefault("Arguments" if argument else panel, []).append(record)
        for panel in sorted(panels, key=lambda panel: panel == "Options"):
            if panels[panel]:
                with formatter.section(panel):
                    formatter.write_dl(panels[panel], col_max=24)


def requesting(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb the options of `Asked`, where its signature says `asked: Asked`."""
    hints = get_type_hints(Asked, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(Asked)
    ]
    signature = inspect.signature(verb, eval_str=True)
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name != "asked"
    ]
    required = [p for p in own if p.default is inspect.Parameter.empty]
    rest = [p for p in own if p.default is not inspect.Parameter.empty]

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        asked = Asked(**{p.name: given.pop(p.name) for p in shared})
        verb(asked=asked, **given)

    together = [*required, *shared, *rest]
    shown: Any = run
    shown.__signature__ = signature.replace(parameters=together)
    shown.__annotations__ = {p.name: p.annotation for p in together}
    del shown.__wrapped__  # typer would read the verb's own signature through it
    return run
