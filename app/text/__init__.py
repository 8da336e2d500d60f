"""From what the caller wrote to the token ids the model reads; no torch, no audio."""
