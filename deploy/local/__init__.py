"""The embedded default: the whole mesh on one machine, its state in one folder, from packages alone."""
