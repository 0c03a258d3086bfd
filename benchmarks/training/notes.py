"""What the page says above each of its tables."""

from __future__ import annotations

from collections.abc import Mapping

NOTES: Mapping[str, str] = {
    "Scratch, tuned": (
        "Held-out loss at the end, on the seeds of tuning. The best mean at the full budget is used by every "
        "contestant."
    ),
    "Screening": (
        "Held-out loss at the end of each budget, on the seeds of screening. The best went on to the next, "
        "and those that stages.py names to the last; some got further than they would now, when there were "
        "fewer contestants. Models that never grow are not screened: the law of the section on ceilings tells"
        " what the middle one would have, decayed as in the last rung."
    ),
    "What is saved": (
        "Paired by seed, with 95 % intervals (Student). Operations saved: how much of the budget is left when"
        " the contestant, decayed there, has scratch's final loss; said where every seed reached it within "
        "the budgets that were tried. Core time is that of the runs' own processes, on a machine that did "
        "other work too."
    ),
    "Ceiling and carry": (
        "If a growth carried the small model's loss over whole, it would save C_large(l) - C_small(l), where "
        "C is what a loss l costs: the offset. By the law L(N, D) = E + A / N^alpha + B / D^beta, N "
        "parameters beside embeddings after D bytes, fitted by least squares to all runs of rows-full.jsonl "
        "and rows-long.jsonl that never grew, at every budget to which they were decayed; intervals from runs"
        " drawn again. Five numbers are more than these runs tell (the exponents trade against each other, up"
        " to the edges of what was tried), the ceilings are told better. They are shares of the budget. A "
        "contestant's ceiling is that of the moment at which it grows, from a model that the law sees by its "
        "parameters alone: one of few layers of full width is worse than the law says, so that the ceiling of"
        " stacking is told too high, and its carry too low. Its offset is C_scratch(l) minus the budget at "
        "the loss that it has when the budget is spent, paired by seed, by the law: so that who did not reach"
        " scratch's loss has one, too. Carry is the offset as a share of the ceiling (in the table above: the"
        " operations saved), and its interval that of the offset alone."
    ),
    "After the growth": (
        "Held-out loss so many steps after the last growth, less that just before it: mean over seeds, with "
        "95 % intervals."
    ),
    "Every run": ("Held-out loss after the decay, by share of the budget."),
    "What raises the carry": (
        "From a model that has learned 14 bytes for each parameter (11 where it was not decayed, 50 in the "
        "parts of 10 and 20 bytes, and from one layer at 80 % of all bytes so many as that makes), and from "
        "scratch: held-out loss where such a share of the budget of "
        "the size that it becomes, at so many bytes for each parameter, is spent on it, the decay included, "
        "what the model cost before not. To large from a model of half the cost, the others as in the family "
        "above. Saved: how much of the budget scratch at the tuned rate would have needed longer for that "
        "loss, by the law of the section on ceilings; not of runs by Muon, of whom the law knows nothing. On "
        "seeds of tuning."
    ),
    "A family of sizes": (
        "Operations saved in all against a scratch run for each size at 14 bytes for each parameter, until "
        "every size has the loss of its own scratch run on the same seed, decays included; with Student's 95 "
        "% intervals. Shares: where a size's trunk was decayed, of its own scratch budget. Carry: of each "
        "step to a larger size what it saved, as a share of what scratch would have needed, by the law of the"
        " section on ceilings, for the loss that was there. The law sees parameters alone: models of one and "
        "two layers are worse than it says (1.381 in place of 1.353 for two), so that a step from one layer "
        "to two is told too high a carry."
    ),
    "A small model that is already there": (
        "Operations of the second stage alone, to the loss of a scratch run that learned so many bytes for "
        "each parameter, on the same seed; with Student's 95 % intervals. Ceiling: by the law of the section "
        "on ceilings, the share that scratch would have needed for the loss that the small model has. Carry: "
        "what was saved of it."
    ),
    "Three times the budget": (
        "The same for three times as many steps, on one seed, by share of these; the rate is that of the "
        "shorter budget, not tuned for this one."
    ),
}
