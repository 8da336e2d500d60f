"""The lists of models: OpenAI's, and the one that Open WebUI asks for."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.auth import KEY_FOR_LISTING
from app.api.context import Context, ContextDep
from app.api.openapi import errors_of
from app.api.presence import in_thread
from app.api.schemas import AudioModel, AudioModelList, Model, ModelList
from app.errors import NotFoundError
from app.models.registry import DEFAULT

router = APIRouter(tags=["models"], dependencies=KEY_FOR_LISTING)

_OWNER = "audio-voice"
_NOT_LOADED = "unloaded"


@router.get("/v1/models", summary="List models", responses=errors_of(401))
async def list_models(context: ContextDep) -> ModelList:
    """Returns the models of this machine, the default first, and the aliases that stand for them.

    They are looked for each time, so a model that was just exported is there.
    """
    return ModelList(data=await in_thread(_models, context))


@router.get("/v1/models/{model_id:path}", summary="Get a model", responses=errors_of(401, 404))
async def get_model(model_id: str, context: ContextDep) -> Model:
    """Returns one model or alias."""
    models = await in_thread(_models, context)
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
    names = [model.id for model in await in_thread(_models, context)]
    return AudioModelList(models=[AudioModel(id=name, name=name) for name in names])


def _models(context: Context) -> list[Model]:
    registry = context.registry
    default = registry.default
    bundles = registry.bundles()
    states = {model.name: model.state.phase for model in context.engine.models}
    # the default is listed even where its files can't be read, or are still being fetched
    names = sorted({default, *bundles}, key=lambda name: (name != default, name))
    models = [
        Model(
            id=name,
            created=0,
            owned_by=_OWNER,
            state=states.get(name, _NOT_LOADED),
            licence=bundles[name].licence if name in bundles else "",
            languages=list(bundles[name].languages) if name in bundles else [],
        )
        for name in names
    ]
    known = {model.id: model for model in models}
    for target in registry.aliases():
        if target.alias != DEFAULT and target.alias not in known:
            meant = known[target.model]
            models.append(meant.model_copy(update={"id": target.alias, "alias_of": target.model}))
    return models
