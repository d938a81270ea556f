"""The process itself: its sockets, its workers, and how it comes to its end."""
