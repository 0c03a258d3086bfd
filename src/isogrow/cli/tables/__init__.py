"""What the verbs found, as rich tables: pure functions from data."""
