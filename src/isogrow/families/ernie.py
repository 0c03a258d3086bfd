"""ERNIE: BERT with embeddings of a task, if the config says so. Megatron-BERT: BERT with its norms before
each branch, and none on the embeddings."""

from __future__ import annotations

from isogrow.families.bert import BERT, A, L, X
from isogrow.families.edits import after, drop, like
from isogrow.families.roberta import pre
from isogrow.layouts.layout import Key, Weight

ERNIE = like(
    BERT,
    "ernie",
    after(
        "types",
        Weight("embeddings.task_type_embeddings.weight", "tasks -> hidden", "tasks", when="use_task_id"),
    ),
    axes={**BERT.axes, "tasks": "task_type_vocab_size"},
    more=(Key("task_type_vocab_size", default=3), Key("use_task_id", default=False)),
    prefixes=("ernie.", ""),
    fixed=BERT.fixed | {"tasks"},
)

MEGATRON_BERT = like(
    pre(
        BERT,
        "megatron-bert",
        A + "ln.weight",
        X + "ln.weight",
        L + "ln.weight",
        "encoder.ln.weight",
    ),
    "megatron-bert",
    drop("embed_norm"),
    defaults=dict(
        vocab_size=29056,
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=16,
        num_hidden_layers=24,
    ),
)

LAYOUTS = (ERNIE, MEGATRON_BERT)
