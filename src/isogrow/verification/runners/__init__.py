"""The engines that can be run from here, one a file, found by themselves.

Each imports its engine when it runs, and none of them is needed for anything else. What they are called, and
what pip installs for them, stands in their tables (`isogrow.engines`).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from isogrow.engines import Engine, engine_for
from isogrow.errors import EngineError
from isogrow.verification.runners.runner import Runner

RUNNERS: Mapping[str, Runner] = {
    runner.engine: runner
    for found in iter_modules(__path__)
    for runner in getattr(import_module(f"{__name__}.{found.name}"), "RUNNERS", ())
}


def runner_for(name: str) -> tuple[Engine, Runner]:
    """The engine of a name, and how it is run here. Raises `SizeError` for an unknown one, `EngineError` for
    one that can't be run: from here at all, or because its packages are not installed.

    >>> runner_for("transformers")[0].title
    'transformers'
    """
    engine = engine_for(name)
    runner = RUNNERS.get(engine.name)
    if runner is None:
        known = ", ".join(sorted(RUNNERS))
        raise EngineError(
            f"{engine.called} is known by its tables alone, and isogrow can't run it: give one of {known}"
        )
    if missing := [module for module in runner.modules if find_spec(module) is None]:
        packages = " ".join(engine.packages)
        raise EngineError(
            f"{engine.title} is not installed here ({missing[0]} is missing): pip install {packages} in an"
            " environment that has isogrow too"
        )
    runner.ready()
    return engine, runner
