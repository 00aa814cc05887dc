"""How checkpoints are written and read: durable, verified, indexed; no MMEngine."""
