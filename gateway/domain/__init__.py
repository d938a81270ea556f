"""The rules, without I/O: tasks, parts, checksums, policies and errors."""
