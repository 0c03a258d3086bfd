"""Trial layouts: data alone, no rules. They show that the grammar can say what eight families store.

Each module has `LAYOUT`, and `WHEN`: slot -> the formula over config keys and index axes that says
which models, and which of their layers, have it. A slot with two lines has two bindings: a model in
memory and its files on disk may name, fuse and stack the same blocks differently.
"""
