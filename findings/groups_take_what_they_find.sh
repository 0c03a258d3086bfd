#!/usr/bin/env bash
# torch 2.13.0: what `set_optimizer_state_dict` does where the saved groups of an optimizer are not the new one's.
#
# `optimizer.load_state_dict` refuses groups of other sizes. The state of torch.distributed.checkpoint.state_dict knows
# parameters by name, so other groups could be told apart, but nothing looks. An AdamW was saved with two groups, weights
# decayed and biases not. Loaded into one group for both, the nested form gives it what the last saved group had, so
# nothing is decayed any more, and the flattened form what the first had, so all is. Where a group was split in two, as for
# layers that were added, the nested form leaves the second group without a rate, which the next step ends with (a
# KeyError), while the flattened form gives it the first one's in place of what it was made with, without a word.
# Exits with 0 while it is so, with 1 if it is not.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$work/seen.py" <<'PY'
import sys

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

FORMS = {"nested": StateDictOptions(), "flattened": StateDictOptions(flatten_optimizer_state_dict=True)}
# (what its parameters' names end in, rate, decay) of each group
SAVED = [("weight", 0.01, 0.1), ("bias", 0.02, 0.0)]
ONE = [(("weight", "bias"), 0.05, 0.5)]
TURNED = [("bias", 0.05, 0.5), ("weight", 0.06, 0.6)]


def made(groups):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    own = [
        dict(
            params=[p for name, p in model.named_parameters() if name.endswith(ends)], lr=rate, weight_decay=decay
        )
        for ends, rate, decay in groups
    ]
    return model, torch.optim.AdamW(own)


def loaded(before, after, options):
    """(rate, decay) of each group once the state of an optimizer that was made otherwise is set."""
    model, optimizer = made(before)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    state = get_optimizer_state_dict(model, optimizer, options=options)
    other, anew = made(after)
    set_optimizer_state_dict(other, anew, state, options=options)
    other(torch.ones(4, 3)).sum().backward()
    try:
        anew.step()
    except KeyError as error:
        return f"in the next step, KeyError: {error}"
    return [(group["lr"], group["weight_decay"]) for group in anew.param_groups]


def by_torch(before, after):
    """What the optimizer's own loading says."""
    (_, optimizer), (_, anew) = made(before), made(after)
    try:
        anew.load_state_dict(optimizer.state_dict())
    except ValueError as error:
        return f"ValueError: {error}"
    return [(group["lr"], group["weight_decay"]) for group in anew.param_groups]


print(f"torch {torch.__version__}: (rate, decay) of groups; saved {[group[1:] for group in SAVED]}")
print(f"  into one, by load_state_dict: {by_torch(SAVED, ONE)}")
found = {}
for form, options in FORMS.items():
    for told, before, after in (
        ("the same groups in another order", SAVED, TURNED),
        ("into one group", SAVED, ONE),
        ("one group into two", ONE, SAVED),
    ):
        found[form, told] = loaded(before, after, options)
        print(f"  {form}, {told}: {found[form, told]}")
as_described = (
    by_torch(SAVED, ONE).startswith("ValueError")
    and all(found[form, "the same groups in another order"] == [(0.02, 0.0), (0.01, 0.1)] for form in FORMS)
    and found["nested", "into one group"] == [(0.02, 0.0)]
    and found["flattened", "into one group"] == [(0.01, 0.1)]
    and found["nested", "one group into two"].startswith("in the next step, KeyError")
    and found["flattened", "one group into two"] == [(0.05, 0.5), (0.05, 0.5)]
)
sys.exit(not as_described)
PY
"$work/venv/bin/python" "$work/seen.py"
