"""What the dev command starts: a strict local COS and an embedded Redis."""
