"""The trainer: makes and fine-tunes XTTS models. Uses `app`'s lower layers; `app` never uses it."""
