"""What of a decoder's run is handed over: only one that is better on held-out recordings, once."""

from __future__ import annotations

import json
from pathlib import Path

from app.errors import AudioVoiceError
from app.files import sha256_of_file, write_atomic
from app.models.bundles import Bundle
from app.models.config import read_json
from train.data.prepared import PreparedClips
from train.decoder.judge import Change, Verdict
from train.decoder.run import DecoderResult
from train.handover.decoder import DecoderHandover, export_decoder
from train.handover.export import next_free_name, voice_name

_EXPORTED_FILE = "exported.json"


def hand_over(
    result: DecoderResult,
    base: Bundle,
    clips: PreparedClips,
    *,
    data: str,
    folder: Path,
    models_dir: Path,
    to: Path | None = None,
) -> tuple[Path | None, str]:
    """Makes a model of a finished run where its decoder got better; returns it and what to tell.

    Args:
        result: of the run.
        base: the model that the decoder comes from.
        clips: of the run.
        data: name of the clips.
        folder: of the run.
        models_dir: where the service looks for models.
        to: the model's folder; a free name under `models_dir` if left out.

    Raises:
        AudioVoiceError: `to` can't be written to, or exists.
    """
    if not result.is_better or result.change is None:
        return None, refusal(result, base)
    if sha256_of_file(base.weights) != result.base_sha256:
        return None, (
            f"{base.weights} changed while its decoder was trained, and the new decoder does not "
            "belong to what is there now: no model was made. Put the file back and start again."
        )
    note = folder / _EXPORTED_FILE
    known = read_json(note) if note.is_file() else {}
    found = f"{_words(result.change, result)}: nearer to the recordings."
    if to is None and known.get("step") == result.best_step:
        earlier = Path(str(known.get("folder", "")))
        if earlier.is_dir():
            return earlier, f"{found} It is exported already: {earlier}."
    handover = DecoderHandover(
        base=base,
        trained=result.best,
        step=result.best_step,
        data=data,
        hours=sum(clip.duration_s for clip in clips.side("train")) / 3600,
        scores=_scores(result),
    )
    target = to or models_dir / next_free_name(models_dir, f"{voice_name(base.name)}-decoder")
    try:
        made = export_decoder(handover, target)
    except AudioVoiceError as error:
        if to is not None:
            raise
        return None, f"{found} No model was made: {error.message}"
    content = {"step": result.best_step, "folder": str(made.absolute())}
    write_atomic(note, json.dumps(content).encode() + b"\n")
    return made, f"{found} Model: {made}; DEFAULT_MODEL={made} speaks with it."


def refusal(result: DecoderResult, base: Bundle) -> str:
    """Returns why there is nothing to hand over, in words."""
    if result.change is None:
        return f"No held-out clip has judged the decoder yet; {base.name} stays as it is."
    return (
        f"{_words(result.change, result)}: that is no gain (the former must fall by more than "
        f"chance, the latter may not rise), so no model was made and {base.name} keeps its "
        "decoder. A lower DECODER_RATE, more DECODER_STEPS or cleaner clips may help."
    )


def _words(verdict: Verdict, result: DecoderResult) -> str:
    return (
        f"Spectral distance of {result.num_judged} held-out clips before, and with the decoder of "
        f"step {result.best_step}: {_told(verdict.drawn)} with codes drawn by the GPT among "
        f"theirs, {_told(verdict.true)} with theirs alone"
    )


def _told(change: Change) -> str:
    return (
        f"{change.before:.3f} and {change.after:.3f} ({change.difference:+.3f}, give or take "
        f"{2 * change.error:.3f})"
    )


def _scores(result: DecoderResult) -> dict[str, float]:
    scores = {f"decoder_{name}_distance": round(v, 4) for name, v in result.after.items()}
    before = {f"decoder_{name}_distance_before": round(v, 4) for name, v in result.before.items()}
    return {**before, **scores, "decoder_judged_by_clips": float(result.num_judged)}
