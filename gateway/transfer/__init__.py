"""The use cases: the order in which bytes, tasks and COS are moved."""
