"""Sizes that a config.json says under another name, as its class takes them."""

from __future__ import annotations

import families as F
import pytest

from isogrow.families import layout_for

NAMES = ["gpt2", "gptj", "gpt_neo", "exaone"]


@pytest.mark.parametrize("name", NAMES)
def test_other_names_are_the_class_s(name: str) -> None:
    keys = layout_for(name).keys
    own = {key.name for key in keys if key.size or key.alias}
    known = F.FAMILIES[name].config.attribute_map
    assert {key.alias: key.name for key in keys if key.alias} == {a: k for a, k in known.items() if k in own}


@pytest.mark.slow
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_size_under_another_name_grows(name: str, both: bool) -> None:
    family = F.FAMILIES[name]
    keys = [key for key in layout_for(name).keys if key.alias]
    source = {**family.json(), **{key.alias: family.json()[key.name] for key in keys}}
    for key in keys if not both else ():
        del source[key.name]
    subject = F.subject(family, "", source, spread=0.1)
    assert subject.anatomy.sizes == F.subject(family).anatomy.sizes
    assert subject.error(subject.plan(family.together)) < F.EXACT
