"""The two steps before training, as the commands and the fit take them: check, then prepare."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import SettingsError
from app.models.bundles import Bundle, find_bundle
from app.settings import Settings
from train.data.base_model import BaseModel, describe_base
from train.data.dvae_files import find_dvae
from train.data.levelling import levelling_of
from train.data.split import Split, split_clips
from train.data.validation import Progress, Validation, validate_data
from train.options import TrainingOptions

if TYPE_CHECKING:
    from train.data.preparation import Preparation

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedData:
    """A validated data set; `split` is None where it can't be trained on."""

    bundle: Bundle
    base: BaseModel
    validation: Validation
    split: Split | None


def check_data(
    settings: Settings,
    options: TrainingOptions,
    progress: Progress = lambda _done, _total: None,
    *,
    needs_dvae: bool = False,
) -> CheckedData:
    """Validates DATA for BASE_MODEL and splits it. Imports no torch.

    Args:
        settings: where models are.
        options: the data and what is asked of it.
        progress: told how many clips were read.
        needs_dvae: refuses a model without one now, and not after reading all clips.

    Raises:
        AudioVoiceError: there is no data set of a known kind, no such model, or no DVAE.
    """
    bundle = find_bundle(options.base_model or settings.default_model, settings)
    base = describe_base(bundle)
    if needs_dvae:
        find_dvae(bundle, base)
    validation = validate_data(options, base, progress)
    split = None
    if not validation.problem:
        split = split_clips(
            validation.usable, eval_share=options.eval_share, max_train=options.max_train_samples
        )
    return CheckedData(bundle, base, validation, split)


def prepare_data(
    settings: Settings,
    options: TrainingOptions,
    checked: CheckedData,
    progress: Progress = lambda _done, _total: None,
) -> Preparation:
    """Fills the cache for data that was found usable; see `preparation.prepare_clips`.

    Raises:
        ModelFileError: the model has no DVAE, or one that does not fit.
        SettingsError: the data can't be trained on, or the cache can't be written to.
    """
    from app.synthesis.placing import place_model
    from train.data.dvae import CodeMaker
    from train.data.features import FeatureMaker
    from train.data.preparation import prepare_clips

    if checked.split is None:
        raise SettingsError(checked.validation.problem, param="DATA")
    place = place_model(settings, _log.info)
    codes = CodeMaker.load(checked.bundle, checked.base, place.device)
    levelling = levelling_of(checked.bundle)
    if levelling is not None:
        _log.info("recordings: cut and levelled, as those that the model was trained on")
    features = FeatureMaker(codes, place.device, place.fft_route, levelling)
    return prepare_clips(checked.split, options, checked.base, codes, features, progress)
