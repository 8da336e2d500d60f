"""The models of this machine by name, and the names that stand for them.

Listed from disk each time, so that what the trainer exports is there without a restart; a folder
that has not changed is not read again. Never opens weights. Needs no torch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from app.errors import ModelFileError, NotFoundError
from app.models.aliases import ALIASES_FILE, AliasFile, HandedAlias
from app.models.bundles import (
    BUILTIN,
    CONFIG_FILE,
    XTTS_V2,
    Bundle,
    builtin_folder,
    find_bundle,
    model_paths,
    name_of_path,
    read_model,
)
from app.models.manifest import MANIFEST_FILE
from app.settings import Settings

#: Means the model of the settings, or the one this name was handed to.
DEFAULT = "default"
_NUM_LISTED = 20

#: Tells whether the files of a model are those that were read.
_Stamp = tuple[tuple[int, int, int] | None, ...]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AliasTarget:
    """An alias, the model it means now, and the hand-over that says so, if one did."""

    alias: str
    model: str
    handed: HandedAlias | None


class ModelRegistry:
    """What models there are, and what a name means.

    Args:
        settings: DEFAULT_MODEL, MODELS_DIR and MODEL_ALIASES.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.handed = AliasFile(settings.models_dir / ALIASES_FILE)
        self._seen: dict[Path, tuple[_Stamp, Bundle | None]] = {}
        self._told: set[str] = set()

    @property
    def configured(self) -> str:
        """The name of DEFAULT_MODEL, whether or not it is there."""
        wanted = self._settings.default_model
        if wanted in (BUILTIN, XTTS_V2) or wanted in dict(model_paths(self._settings.models_dir)):
            return wanted
        return name_of_path(Path(wanted).expanduser())

    @property
    def default(self) -> str:
        """The model that `default` means."""
        return self._target_of(DEFAULT, self.bundles()) or self.configured

    def bundles(self) -> dict[str, Bundle]:
        """Returns every readable model by name: the built-in, the default, those of MODELS_DIR."""
        found: dict[str, Bundle | None] = {BUILTIN: self._read(BUILTIN, builtin_folder())}
        for name, path in model_paths(self._settings.models_dir):
            found[name] = self._read(name, path)
        configured = self.configured
        if configured not in found:
            path = Path(self._settings.default_model).expanduser()
            found[configured] = self._read(configured, path) if path.exists() else None
        return {name: bundle for name, bundle in found.items() if bundle is not None}

    def find(self, name: str) -> Bundle:
        """Returns the model of that name, which is no alias.

        Raises:
            NotFoundError: there is none; the message lists what there is.
            ModelFileError: it is there and a file of it can't be read.
        """
        bundle = self.bundles().get(name)
        if bundle is not None:
            return bundle
        if name == XTTS_V2 or name in dict(model_paths(self._settings.models_dir)):
            return find_bundle(name, self._settings)  # which says what is wrong with it
        raise self._unknown(name)

    def resolve(self, name: str | None) -> str:
        """Returns the model that a name means: its own, an alias, or `default`; None is `default`.

        A model comes before an alias of the same name. The default model is taken to be there even
        where it can't be read: whoever loads it will say what is wrong.

        Raises:
            NotFoundError: nothing is called so; the message lists what there is.
            ModelFileError: it is there and a file of it can't be read.
        """
        wanted = name or DEFAULT
        bundles = self.bundles()
        if wanted in bundles:
            return wanted
        target = self._target_of(wanted, bundles)
        if target is not None:
            return target
        if wanted in (DEFAULT, self._settings.default_model, self.configured):
            return self.configured
        return self.find(wanted).name

    def aliases(self) -> list[AliasTarget]:
        """Returns every alias with the model it means: `default` first, the settings' next.

        Those of the settings that mean no model of this machine are left out.
        """
        bundles = self.bundles()
        handed = self.handed.read()
        names = dict.fromkeys((DEFAULT, *self._settings.model_aliases, *sorted(handed)))
        targets = ((name, self._target_of(name, bundles)) for name in names)
        found = [(n, t or (self.configured if n == DEFAULT else None)) for n, t in targets]
        return [AliasTarget(name, model, handed.get(name)) for name, model in found if model]

    def settings_target(self, alias: str) -> str | None:
        """Returns the model that the settings alone mean by an alias; None if they mean none."""
        return self._settings_target(alias, self.bundles())

    def settings_for(self, name: str) -> Settings:
        """Returns the settings of a worker that is to load this model.

        DEFAULT_VOICE speaks of DEFAULT_MODEL, and is left out for any other.
        """
        settings = self._settings
        if name == self.configured:
            return settings
        return settings.model_copy(update={"default_model": name, "default_voice": ""})

    def _target_of(self, alias: str, bundles: dict[str, Bundle]) -> str | None:
        """Returns the model that an alias means; None if it is no alias, or means nothing here.

        A model that an alias was handed to and that is gone gives way to the one before it.
        """
        handed = self.handed.read().get(alias)
        if handed is not None:
            for model in (handed.model, *reversed(handed.previous)):
                if model in bundles:
                    return model
                self._tell_once(alias, model)
        return self._settings_target(alias, bundles)

    def _settings_target(self, alias: str, bundles: dict[str, Bundle]) -> str | None:
        if alias == DEFAULT:
            return self.configured if self.configured in bundles else None
        wanted = self._settings.model_aliases.get(alias)
        if wanted in (DEFAULT, self._settings.default_model):
            return self._target_of(DEFAULT, bundles) or self.configured
        return wanted if wanted in bundles else None

    def _tell_once(self, alias: str, model: str) -> None:
        said = f"{alias} {model}"
        if model and said not in self._told:
            self._told.add(said)
            _log.error("%s means the model %s, which is gone: the one before is used", alias, model)

    def _read(self, name: str, path: Path) -> Bundle | None:
        """Returns what lies at the path; None if it can't be read, which a log line says once."""
        files = (path, path / MANIFEST_FILE, path / CONFIG_FILE) if path.is_dir() else (path,)
        stamp = tuple(map(_stamp_of, files))
        seen = self._seen.get(path)
        if seen is not None and seen[0] == stamp:
            return seen[1]
        bundle = None
        try:
            bundle = read_model(path, name)
        except ModelFileError as error:
            _log.warning("%s is not listed as a model: %s", path, error.message)
        self._seen[path] = (stamp, bundle)
        return bundle

    def _unknown(self, name: str) -> NotFoundError:
        names = [*self.bundles(), *(target.alias for target in self.aliases())]
        listed = ", ".join(dict.fromkeys(names[:_NUM_LISTED]))
        return NotFoundError(
            f"There is no model '{name[:100]}' here; there are: {listed}.",
            param="model",
            code="model_not_found",
        )


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return (seen.st_ino, seen.st_mtime_ns, seen.st_size)
