"""Starlette: the HTTP and websocket doors."""
