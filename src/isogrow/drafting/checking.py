"""What is built in, held against the library that is installed: a type's default model against its table, and
the table against a new draft of the type."""

from __future__ import annotations

from dataclasses import dataclass

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from isogrow.drafting.comparing import differences
from isogrow.drafting.drafts import draft
from isogrow.drafting.kinds import built_on_meta, config_class, default_config
from isogrow.errors import FamilyError, IsogrowError, in_a_line
from isogrow.families import LAYOUTS, layout_of
from isogrow.families.wrappers import WRAPPERS
from isogrow.interpreters.module import headers
from isogrow.plans.matching import match


@dataclass(frozen=True)
class Checked:
    """What is otherwise than a table says (`said`); `drafted` is "proven" or "in part" where the type was
    drafted, and `why` what stopped a draft, or kept defaults from being compared."""

    said: tuple[str, ...]
    drafted: str = ""
    why: str = ""


def checkable() -> tuple[str, ...]:
    """The model types that are built in and that the installed library has."""
    return tuple(sorted((LAYOUTS.keys() | WRAPPERS.keys()) & set(CONFIG_MAPPING)))


def check(model_type: str) -> Checked:
    """What the installed library makes otherwise than the table of a type.

    Raises `FamilyError` for a type that is not built in.
    """
    layout_of({"model_type": model_type})
    config_class(model_type)
    said, beside = (), ""
    try:
        said = () if model_type in WRAPPERS else defaults(model_type)
    except FamilyError as error:
        beside = str(error)
    again = _drafted(model_type)
    return Checked((*said, *again.said), again.drafted, "; ".join(filter(None, (again.why, beside))))


def _drafted(model_type: str) -> Checked:
    """What a draft of the type, made anew, has otherwise than its table."""
    try:
        made = draft(model_type)
    except IsogrowError as error:
        return Checked((), why=" ".join(str(error).split()))
    except Exception as error:  # a class may raise anything on small sizes
        return Checked((), why=in_a_line(error))
    if made.proof.failed:
        return Checked((), why=made.proof.failed)
    drafted = "proven" if made.proven and made.whole else "in part"
    return Checked(differences(made, layout_of(made.config)), drafted)


def defaults(model_type: str) -> tuple[str, ...]:
    """Where the model that a class makes of its default config is none of the table's, or the table takes
    another default for a config.json that says nothing.

    Raises `FamilyError` where the class makes no model of its own defaults, as some do.
    """
    try:
        full = default_config(model_type)
        model = built_on_meta(full)
    except Exception as error:
        raise FamilyError(
            f"its class makes no model of its defaults ({in_a_line(error):.100}), so they were not compared"
        ) from error
    layout = layout_of(full)
    try:
        sizes = match(layout, full, headers(model), type(model).__name__).sizes.values
        bare = layout_of({"model_type": model_type}).read({"model_type": model_type})
    except IsogrowError as error:
        return (f"its default model is no longer the table's: {' '.join(str(error).split())}",)
    other = {axis: n for axis, n in bare.items() if axis in sizes and n != sizes[axis]}
    return tuple(
        f"by default the class takes {axis}={sizes[axis]}, the table {other[axis]}" for axis in other
    )
