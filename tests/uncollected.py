"""What a process imports first that ends before garbage is worth a search: a quarter of its imports' time."""

import gc

gc.disable()
