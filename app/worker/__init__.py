"""The engine worker: one process that owns torch and one model."""
