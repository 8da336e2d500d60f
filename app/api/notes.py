"""What a model's makers say of it that its users should know, such as what it can't do yet."""

from __future__ import annotations

from app.errors import ModelFileError, NotFoundError
from app.models.registry import ModelRegistry


def model_notes(registry: ModelRegistry) -> list[str]:
    """Returns the notes of the default model's manifest; none where it has no manifest.

    Reads files; a model that can't be found is the worker's to report.
    """
    try:
        manifest = registry.find(registry.default).manifest
    except (NotFoundError, ModelFileError):
        return []
    return list(manifest.notes) if manifest else []
