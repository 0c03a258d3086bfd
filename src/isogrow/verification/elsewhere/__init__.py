"""A growth in another engine: run in a process of its own (`apart`), and compared (`outputs`, `proof`)."""
