"""What the decoder learns from: stock's latents, and audio cut as the codes were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from clip_folders import LONG_CLIP
from fit_runs import prepared_clips
from toy import load_stock, toy_folder

from app.errors import InputError, SettingsError
from app.files import sha256_of_file
from app.models.bundles import read_folder
from app.models.config import read_config
from app.models.weights import read_state
from train.data.features import load_recording
from train.data.levelling import Levelling
from train.data.prepared import PreparedClip
from train.decoder.drawn import mix_drawn
from train.decoder.latents import clip_latents
from train.decoder.material import Material, MaterialClips, NewClip, stored_identity, write_material
from train.decoder.sound import clip_sound
from train.fit.batch import fixed_rows
from train.fit.network import load_network
from train.fit.setup import layout_of, mel_stats_of


def test_latents_are_those_that_stock_decodes(tmp_path: Path) -> None:
    bundle = read_folder(toy_folder(), "toy")
    config, state = read_config(bundle.config, bundle.decoder), read_state(bundle.weights)
    network = load_network(state, config, bundle.weights)
    clips, stats = prepared_clips(tmp_path, bundle, num_train=5), mel_stats_of(state, bundle)
    layout = layout_of(bundle, config, network)
    # one clip at a time, so that its stretch of conditioning is known here
    found = {
        one.clip.name: one for one in clip_latents(network, clips, stats, layout, max_positions=1)
    }
    assert set(found) == {clip.name for clip in clips}
    stock = load_stock(bundle.folder).gpt.eval()
    for index, clip in enumerate(clips):
        row = fixed_rows(clips, [index])[0]
        mel = torch.from_numpy(clips.style_mel(clip, row.start, row.num_frames))
        one = found[clip.name]
        assert not np.array_equal(one.codes, clips.codes(clip))
        for spoken, latents in ((clips.codes(clip), one.true), (one.codes, one.drawn)):
            codes = torch.tensor([*spoken.tolist(), 1025])  # the stop, as when it speaks
            with torch.no_grad():
                wanted = stock(
                    torch.tensor([clip.token_ids]),
                    torch.tensor([len(clip.token_ids)]),
                    codes[None],
                    torch.tensor([len(codes) * 1024]),
                    cond_mels=(mel / stats[:, None])[None, None],
                    return_latent=True,
                )[0]
            assert wanted.shape == (clip.num_codes + 1, 64)
            torch.testing.assert_close(torch.from_numpy(latents), wanted, rtol=1e-4, atol=1e-4)


def test_the_same_clips_get_the_same_draws_in_any_batches(tmp_path: Path) -> None:
    bundle = read_folder(toy_folder(), "toy")
    config, state = read_config(bundle.config, bundle.decoder), read_state(bundle.weights)
    network = load_network(state, config, bundle.weights)
    clips, stats = prepared_clips(tmp_path, bundle, num_train=5), mel_stats_of(state, bundle)
    layout = layout_of(bundle, config, network)

    def drawn(max_positions: int) -> dict[str, list[int]]:
        found = clip_latents(network, clips, stats, layout, max_positions)
        return {one.clip.name: one.codes.tolist() for one in found}

    alone = drawn(1)
    assert alone == drawn(1)
    assert max(max(codes) for codes in alone.values()) < 1024  # neither start nor stop
    # in larger batches clips are heard with other stretches: other logits, the same places
    together = drawn(4000)
    for clip in clips:
        true = clips.codes(clip)
        kept = (true == alone[clip.name]) & (true == together[clip.name])
        assert kept.mean() > 0.4
    changed = [np.mean(clips.codes(clip) != alone[clip.name]) for clip in clips]
    assert 0.2 < np.mean(changed) < 0.6


def test_about_two_fifths_are_drawn_and_as_likely_as_the_logits_say() -> None:
    codes = np.full(20_000, 3)
    logits = np.zeros((20_000, 4), np.float32)
    logits[:, 0] = 0.8 * np.log(2)  # twice as likely as each other at the temperature of 0.8
    mixed = mix_drawn(codes, logits, np.random.default_rng(5))
    shares = np.bincount(mixed, minlength=4) / len(codes)
    np.testing.assert_allclose(
        shares, 0.4 * np.array([0.4, 0.2, 0.2, 0.2]) + [0, 0, 0, 0.6], atol=0.02
    )
    assert np.array_equal(mixed, mix_drawn(codes, logits, np.random.default_rng(5)))
    assert not np.array_equal(mixed, mix_drawn(codes, logits, np.random.default_rng(6)))
    assert set(codes) == {3}  # what is given stays


def prepared_clip(path: Path, num_samples: int) -> PreparedClip:
    return PreparedClip(
        name=path.stem,
        side="train",
        speaker="",
        language="en",
        text="",
        spoken="",
        token_ids=(),
        num_samples=num_samples,
        num_codes=-(-num_samples // 1024),
        num_frames=1 + num_samples // 256,
        key=sha256_of_file(path),
        shard="",
        audio=str(path),
    )


@pytest.mark.parametrize("levelling", [None, Levelling()], ids=["as it is", "levelled"])
def test_audio_is_the_part_of_the_recording_that_the_codes_are_of(
    levelling: Levelling | None,
) -> None:
    heard = load_recording(LONG_CLIP).samples
    # silence before it, so that there is something to cut off
    heard = heard if levelling is None else levelling(heard, 22050)
    clip = prepared_clip(LONG_CLIP, len(heard))
    np.testing.assert_allclose(clip_sound(clip, 22050, levelling), heard, atol=1e-6)
    at_output = clip_sound(clip, 24000, levelling)
    assert len(at_output) == round(len(heard) * 24000 / 22050)
    back = np.interp(np.arange(len(heard)) / 22050, np.arange(len(at_output)) / 24000, at_output)
    lags = range(-40, 41)
    part = heard[1000:-1000]
    likeness = [float(part @ back[1000 + lag : len(back) - 1000 + lag]) for lag in lags]
    assert abs(lags[int(np.argmax(likeness))]) <= 1  # 45 us


def test_a_recording_that_changed_or_went_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(22050), 22050)
    clip = prepared_clip(path, 22050)
    clip_sound(clip, 24000, None)
    with pytest.raises(InputError, match="recording of a changed"):
        clip_sound(replace(clip, key="0" * 64), 24000, None)
    path.unlink()
    with pytest.raises(InputError, match="recording of a can't be read"):
        clip_sound(clip, 24000, None)


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [
        NewClip(
            f"c{n}",
            "train" if n else "eval",
            "ab"[n % 2],
            rng.standard_normal((9 + n, 4)).astype(np.float32),
            rng.standard_normal((9 + n, 4)).astype(np.float32),
            rng.uniform(-1, 1, 5000 + n).astype(np.float32),
        )
        for n in range(4)
    ]
    vectors = {name: list(rng.standard_normal((3, 512)).astype(np.float32)) for name in "ab"}
    write_material(tmp_path / "m", "x", clips, vectors)
    assert stored_identity(tmp_path / "m") == "x"
    material = Material(tmp_path / "m")
    for stored, clip in zip(material.clips, clips, strict=True):
        for drawn, wanted in ((False, clip.true), (True, clip.drawn)):
            latents = material.latents(stored, drawn=drawn)
            np.testing.assert_allclose(latents, wanted, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(material.audio(stored), clip.audio, atol=2e-5)
    np.testing.assert_array_equal(material.speakers["b"], vectors["b"])
    assert np.linalg.norm(material.mean_speaker("a")) == pytest.approx(1)

    source = MaterialClips(material, 10, delay=0)
    assert [clip.name for clip in source.clips] == ["c2", "c3"]  # c1 has 10 latents, c0 judges
    known = [*vectors["a"], material.mean_speaker("a")]
    visits = [source.read(0, np.random.default_rng(seed)) for seed in range(40)]
    counts = [sum(np.array_equal(one.speaker, vector) for one in visits) for vector in known]
    assert sum(counts) == 40
    assert min(counts) > 0
    assert counts[-1] >= 10  # the mean, half of the time
    own = material.latents(source.clips[0], drawn=False)
    assert 10 <= sum(np.array_equal(one.features, own) for one in visits) <= 30  # so are true codes
    with pytest.raises(SettingsError, match="DECODER_SEGMENT_S"):
        MaterialClips(material, 20, delay=0)

    (tmp_path / "m" / "audio.s16").write_bytes(b"12")
    with pytest.raises(SettingsError, match="can't be used"):
        Material(tmp_path / "m")
