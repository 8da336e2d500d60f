"""What a model's makers say of it that its users should know, such as what it can't do yet."""

from __future__ import annotations

from app.errors import ModelFileError, NotFoundError
from app.models.bundles import find_bundle
from app.settings import Settings


def model_notes(settings: Settings) -> list[str]:
    """Returns the notes of the model's manifest; none where it has no manifest.

    Reads files; a model that can't be found is the worker's to report.
    """
    try:
        manifest = find_bundle(settings.default_model, settings).manifest
    except (NotFoundError, ModelFileError):
        return []
    return list(manifest.notes) if manifest else []
