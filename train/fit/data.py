"""From a folder of clips to the list that every process of a run reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console

from app.errors import AudioVoiceError, SettingsError
from app.settings import Settings
from train.data.pipeline import check_data, prepare_data
from train.data.prepared import PreparedClips
from train.data.report import write_report
from train.data.terminal import progress_bar, show_validation
from train.options import TrainingOptions

REPORT_NAME = "data_report.html"


@dataclass(frozen=True)
class RunClips:
    """The clips of a run; `lost` names those that went away while they were prepared."""

    clips: PreparedClips
    num_left_out: int
    lost: tuple[str, ...] = ()


def gather_clips(
    settings: Settings, options: TrainingOptions, accelerator: Accelerator, console: Console
) -> RunClips:
    """Checks and prepares the clips in the first process; all of them open the result.

    Raises:
        AudioVoiceError: the data can't be trained on, or the cache can't be written to.
    """
    fault: AudioVoiceError | None = None
    found: list[object] = [None, 0, ()]
    if accelerator.is_main_process:
        try:
            made = _prepare(settings, options, console)
            found = [str(made.clips.path), made.num_left_out, made.lost]
        except AudioVoiceError as error:
            fault = error
    if accelerator.num_processes > 1:
        broadcast_object_list(found)
    if fault is not None:
        raise fault
    path, num_left_out, lost = found
    if path is None:
        raise SettingsError("The first process could not prepare the clips; see its message.")
    assert isinstance(num_left_out, int)
    assert isinstance(lost, tuple)
    return RunClips(PreparedClips.open(Path(str(path))), num_left_out, lost)


def _prepare(settings: Settings, options: TrainingOptions, console: Console) -> RunClips:
    with progress_bar(console, "Reading clips") as progress:
        checked = check_data(settings, options, progress, needs_dvae=True)
    show_validation(console, checked.validation, checked.split)
    report = options.train_output_dir / REPORT_NAME
    write_report(report, checked.validation, checked.split)
    if checked.split is None:
        raise SettingsError(
            f"{checked.validation.problem} All findings are in {report}.", param="DATA"
        )
    with progress_bar(console, "Computing codes and mels") as progress:
        made = prepare_data(settings, options, checked, progress)
    return RunClips(made.clips, len(checked.split.left_out), made.lost)
