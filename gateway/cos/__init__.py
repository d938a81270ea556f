"""Tencent COS: its signature, its wire and the client that speaks them."""
