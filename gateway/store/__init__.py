"""Redis: tasks, parts, tails and indexes, and the bus that tells of changes."""
