"""The api process's side of an engine worker: starts, watches and restarts it, speaks with it."""
