"""A trial layout, esm's: data alone, no rules. It shows that the grammar can say what that family stores.

Beside it stand checks of any layout against its models; four built-in families, whose files and memory differ
or whose tensors are fused, are held to them too.
"""
