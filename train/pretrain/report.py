"""The report stage: what every stage found, as one JSON file and one page of Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from app.errors import SettingsError
from app.files import write_atomic
from app.models.bundles import read_folder
from app.models.manifest import read_manifest, write_manifest
from train.evaluation import Sentence, evaluate
from train.judging.against import compare
from train.judging.pictures import draw_pairs
from train.judging.recordings import Recordings, read_some
from train.judging.speaking import InThisProcess
from train.pretrain.corpus import AUDIO_RATE
from train.pretrain.curves import draw_curves
from train.pretrain.roundtrip import distinct_held_out
from train.pretrain.workspace import Workspace
from train.transcribe import PocketSphinx

_PICTURES = "pictures"
#: What a manifest calls the figures of a voice; `{}` is the voice.
_MANIFEST_NAMES = {
    "sentences": "sentences_pocketsphinx_{}",
    "wer": "word_error_rate_pocketsphinx_{}",
    "cer": "character_error_rate_pocketsphinx_{}",
    "recording_wer": "word_error_rate_of_recordings_pocketsphinx_{}",
    "recording_cer": "character_error_rate_of_recordings_pocketsphinx_{}",
    "speaker_nearest": "share_nearest_to_own_speaker_{}",
    "copy_mel": "copy_synthesis_mel_distance_{}",
}


def run_report(work: Workspace) -> None:
    """Scores the bundle on the held-out sentences and writes `report.json` and `report.md`.

    The scores also go into the bundle's manifest.
    """
    scores = _score(work)
    if scores:
        work.note("scores", **scores)
        manifest = read_manifest(work.bundle_path)
        figures = manifest_scores(scores)
        write_manifest(work.bundle_path, manifest.model_copy(update={"scores": figures}))
    pictures = draw_curves(work.folder / "runs", work.folder / "curves")
    pictures += sorted((work.folder / _PICTURES).rglob("*.png"))
    results = work.results()
    write_atomic(work.folder / "report.json", json.dumps(results, indent=2).encode())
    page = render(work.recipe.name, results, [str(p.relative_to(work.folder)) for p in pictures])
    write_atomic(work.folder / "report.md", page.encode())


def held_out_sentences(work: Workspace, speaker: str) -> list[Sentence]:
    """Returns the recipe's held-out sentences with the length of a speaker's recording."""
    return [
        Sentence(clip.name, clip.text, round(clip.num_samples / AUDIO_RATE, 2))
        for clip in distinct_held_out(work, speaker)
    ]


def _score(work: Workspace) -> dict[str, Any]:
    limit = work.recipe.score.sentences
    if not limit:
        return {}
    try:
        ears = PocketSphinx()
    except SettingsError:
        return {}
    found = {}
    bundle = read_folder(work.bundle_path, work.recipe.name)
    language = work.recipe.data.language
    for speaker in work.corpus.speakers:
        sentences = held_out_sentences(work, speaker)[:limit]
        if sentences:
            voice = InThisProcess(str(work.bundle_path), speaker, language)
            evaluation = evaluate(voice, sentences, ears)
            recordings = held_out_recordings(work, speaker, limit)
            comparison = compare(
                evaluation, sentences, recordings, ears, bundle=bundle, language=language
            )
            draw_pairs(work.folder / _PICTURES / speaker, evaluation, recordings)
            found[speaker] = evaluation.scores.as_dict() | comparison.as_dict()
    return found


def held_out_recordings(work: Workspace, speaker: str, limit: int) -> Recordings:
    """Returns a speaker's held-out clips, and those of every other speaker and stranger."""
    corpus = work.corpus
    others = {
        name: [corpus.audio(clip) for clip in distinct_held_out(work, name)[:limit]]
        for name in corpus.speakers
        if name != speaker
    }
    for name in work.recipe.score.strangers:
        others[name] = read_some(work.data_dir / name)
    own = {clip.name: corpus.audio(clip) for clip in distinct_held_out(work, speaker)[:limit]}
    return Recordings(own, {name: clips for name, clips in others.items() if clips})


def manifest_scores(scores: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Returns the figures of each voice that a bundle's manifest shows, by telling names."""
    return {
        name.format(voice): float(values[key])
        for voice, values in scores.items()
        for key, name in _MANIFEST_NAMES.items()
        if key in values
    }


def render(name: str, results: dict[str, dict[str, Any]], pictures: Sequence[str] = ()) -> str:
    """Returns the results as a page of Markdown: a table for each stage, then the pictures."""
    lines = [f"# Recipe {name}", ""]
    for stage, values in results.items():
        lines += [f"## {stage}", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {_cell(value)} |" for key, value in values.items()]
        lines.append("")
    lines += [f"![{picture}]({picture})" for picture in pictures]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(inner)}" for key, inner in value.items())
    return str(value)
