"""Layouts drafted from the models themselves: measured on tiny models, and proven on them before they may
grow anything.

    kinds.py       model types and their classes
    twins.py       a config's tiny twin
    tracing.py     one forward pass, seen
    norms.py       a norm, known by calling it
    attentions.py  an attention as it was seen: heads, what turns
    roles.py       what each module of a layer does
    slots.py       which slot that is
    outside.py     embeddings, the last norm, the head
    inputs.py      what a tiny model is run on
    samples.py     models under changed configs
    measuring.py   all that is measured of a type
    formulas.py    the formula that has all measured values
    defaults.py    what a class takes a missing key for
    layering.py    layers of several kinds
    mixtures.py    mixtures of experts
    filing.py      the names that files have
    fitting.py     axes and patterns
    assembling.py  the layout
    partial.py     the layout of what was told, where not all was
    wrapped.py     a language model's layout within a wrapper
    proof.py       the proof
    drafts.py      a draft, and a layout file that is proven
    comparing.py   a draft against the layout that is built in
"""
