"""Voices: the uploaded ones on disk, the names they go by, and their conditioning."""
