"""The lists of models: OpenAI's, and the one that Open WebUI asks for."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.auth import KEY_FOR_LISTING
from app.api.context import Context, ContextDep
from app.api.names import loaded_model, model_names
from app.api.openapi import errors_of
from app.api.schemas import AudioModel, AudioModelList, Model, ModelList
from app.errors import NotFoundError

router = APIRouter(tags=["models"], dependencies=KEY_FOR_LISTING)

_OWNER = "audio-voice"


@router.get("/v1/models", summary="List models", responses=errors_of(401))
async def list_models(context: ContextDep) -> ModelList:
    """Returns the loaded model and the aliases that stand for it."""
    return ModelList(data=_models(context))


@router.get("/v1/models/{model_id}", summary="Get a model", responses=errors_of(401, 404))
async def get_model(model_id: str, context: ContextDep) -> Model:
    """Returns one model or alias."""
    models = _models(context)
    for model in models:
        if model.id == model_id:
            return model
    raise NotFoundError(
        f"There is no model '{model_id[:100]}' here; there are: "
        f"{', '.join(model.id for model in models)}.",
        param="model",
        code="model_not_found",
    )


@router.get("/v1/audio/models", summary="List speech models", responses=errors_of(401))
async def list_audio_models(context: ContextDep) -> AudioModelList:
    """Returns the same models in Open WebUI's shape."""
    names = [model.id for model in _models(context)]
    return AudioModelList(models=[AudioModel(id=name, name=name) for name in names])


def _models(context: Context) -> list[Model]:
    ready = context.engine.state.ready
    loaded = loaded_model(context.settings, ready)
    names = model_names(context.settings, ready)
    return [
        Model(id=name, created=0, owned_by=_OWNER, alias_of=None if name == loaded else alias)
        for name, alias in names.items()
    ]
