"""What every test stands on: no network, one thread, and a fixed hypothesis profile in CI."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it once, when it is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is imported, here and in processes of the tests
os.environ.setdefault("MPLBACKEND", "Agg")

gc.disable()  # until all is imported: what is made on the way stays

import pytest  # noqa: E402
import sweeping  # noqa: E402
from families_verb import Asked, asked_once  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# Neither profile measures time: test machines share their cores. CI draws the same examples each time.
drawn = dict(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", derandomize=True, **drawn)
settings.register_profile("dev", **drawn)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the rest of what is marked `sweep` to `make sweep`."""
    rest = [] if sweeping.EVERYTHING else sweeping.left_out(items)
    if rest:
        config.hook.pytest_deselected(items=rest)
        gone = set(rest)
        items[:] = [item for item in items if item not in gone]


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage and no search among objects walks it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, *gc.get_threshold()[1:])  # a class that a test loads brings thousands of objects
    gc.enable()


def pytest_report_header() -> str:
    part = "all" if sweeping.EVERYTHING else f"one in {sweeping.SHARE}, seed {sweeping.SEED}"
    cases = sweeping.KINDS * sweeping.FUZZED
    return f"sweep: {part}; {cases:,} fuzzed cases, {sweeping.KILLS} killed growths"


@pytest.fixture(scope="session")
def families_asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """What the verb `families` answers, run once however many processes the tests have."""
    own = tmp_path_factory.getbasetemp()
    return asked_once(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="module", autouse=True)
def only_known_here() -> Iterator[None]:
    """What one file's tests register, or replace, no other file's tests know."""
    from isogrow.families import LAYOUTS, register

    before = dict(LAYOUTS)
    yield
    for name in LAYOUTS.keys() - before.keys():
        del LAYOUTS[name]
    for name, layout in before.items():
        if LAYOUTS[name] is not layout:
            register(layout)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    import torch  # not above: what hands tests out to workers runs none, and starts sooner without

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1, timeout=timedelta(seconds=60)
    )
    yield
    torch.distributed.destroy_process_group()
