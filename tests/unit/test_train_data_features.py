"""What is computed of a clip equals what stock's trainer computes; stored, mapped, guarded."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_folders import LONG_CLIP, OTHER_CLIP, base_model, samples_of, written
from random_dvae import SIZES, random_dvae
from toy import num_threads
from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram
from TTS.tts.layers.xtts.dvae import DiscreteVAE

from app.errors import InputError, ModelFileError, SettingsError
from app.models.bundles import Bundle
from train.data.cache import ClipCache
from train.data.dvae import CodeMaker
from train.data.dvae_files import find_dvae
from train.data.features import CODE_FFT, STYLE_FFT, FeatureMaker, load_recording, log_mel
from train.data.prepared import SILENCE_LOG_MEL, PreparedClip, PreparedClips, PreparedFor
from train.data.shards import ClipArrays, Shard, write_shard

CPU = torch.device("cpu")


def bundle_in(folder: Path) -> Bundle:
    return Bundle(
        name="xtts",
        kind="coqui",
        folder=folder,
        weights=folder / "model.pth",
        config=folder / "config.json",
        vocab=folder / "vocab.json",
        decoder=None,
        speakers=None,
        voices_dir=None,
        manifest=None,
        version="",
        licence="",
        languages=("en",),
    )


def write_dvae(folder: Path, dvae: DiscreteVAE, sizes: dict[str, object] | None = None) -> Bundle:
    """Writes a DVAE as stock's downloads have it."""
    torch.save(dvae.state_dict(), folder / "dvae.pth")
    torch.save(torch.linspace(2, 7, 80), folder / "mel_stats.pth")
    (folder / "dvae.json").write_text(json.dumps(sizes or SIZES))
    return bundle_in(folder)


@pytest.fixture
def sound() -> torch.Tensor:
    return torch.from_numpy(load_recording(LONG_CLIP).samples)


@pytest.mark.parametrize("n_fft", [CODE_FFT, STYLE_FFT])
def test_mels_are_those_of_stock(sound: torch.Tensor, n_fft: int) -> None:
    stock = TorchMelSpectrogram(filter_length=n_fft, mel_norm_file=None)
    torch.testing.assert_close(log_mel(sound, n_fft), stock(sound[None])[0], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("n_fft", [CODE_FFT, STYLE_FFT])
def test_routes_give_the_same_mels(sound: torch.Tensor, n_fft: int) -> None:
    usual = log_mel(sound, n_fft, "device")
    assert torch.equal(log_mel(sound, n_fft, "cpu"), usual)
    torch.testing.assert_close(log_mel(sound, n_fft, "dft"), usual, atol=2e-3, rtol=1e-3)


def test_recordings_are_read_as_stock_reads_them() -> None:
    import torchaudio

    samples, rate = samples_of(OTHER_CLIP)
    stock = torchaudio.functional.resample(torch.from_numpy(samples), rate, 22050).clip(-1, 1)
    torch.testing.assert_close(torch.from_numpy(load_recording(OTHER_CLIP).samples), stock)


def test_reading_leaves_the_threads_of_whoever_trains_alone() -> None:
    """Their number decides the last bits of every sum, so also whether a resume ends the same."""
    with num_threads(2):
        load_recording(OTHER_CLIP)
        assert torch.get_num_threads() == 2


def test_codes_are_those_of_stock(tmp_path: Path, sound: torch.Tensor) -> None:
    dvae = random_dvae()
    maker = CodeMaker.load(write_dvae(tmp_path, dvae), base_model(), CPU)
    stock_mel = TorchMelSpectrogram(mel_norm_file=str(tmp_path / "mel_stats.pth"))
    expected = dvae.get_codebook_indices(stock_mel(sound[None]))[0]
    codes = maker(log_mel(sound, CODE_FFT), len(sound))
    assert len(codes) == -(-len(sound) // 1024)
    # a frame that lies between two codes may fall to either by the last bit
    assert np.mean(codes == expected[: len(codes)].numpy()) > 0.99
    assert len(set(codes.tolist())) > 5


def test_a_whole_number_of_strides_has_as_many_codes(tmp_path: Path) -> None:
    maker = CodeMaker.load(write_dvae(tmp_path, random_dvae()), base_model(), CPU)
    for num_samples in (10240, 10241, 10239):
        samples = torch.randn(num_samples)
        expected = -(-num_samples // 1024)
        assert len(maker(log_mel(samples, CODE_FFT), num_samples)) == expected


def test_dvae_missing_or_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"dvae\.pth and mel_stats\.pth"):
        find_dvae(bundle_in(tmp_path), base_model())
    bundle = write_dvae(tmp_path, random_dvae(), {**SIZES, "num_layers": 1})
    with pytest.raises(ModelFileError, match="1024 codes of 512 samples"):
        CodeMaker.load(bundle, base_model(), CPU)
    bundle = write_dvae(tmp_path, random_dvae(), {**SIZES, "hidden_dim": 24})
    with pytest.raises(ModelFileError, match=r"encoder\.0"):
        CodeMaker.load(bundle, base_model(), CPU)
    bundle = write_dvae(tmp_path, random_dvae())
    (tmp_path / "dvae.pth").write_bytes((tmp_path / "dvae.pth").read_bytes()[:2000])
    with pytest.raises(ModelFileError, match="can't be read"):
        CodeMaker.load(bundle, base_model(), CPU)


def test_our_bundles_keep_it_in_a_folder_of_their_own(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    stock, ours = tmp_path / "stock", tmp_path / "ours"
    stock.mkdir()
    (ours / "training").mkdir(parents=True)
    dvae = random_dvae()
    maker = CodeMaker.load(write_dvae(stock, dvae), base_model(), CPU)
    save_file(dvae.state_dict(), ours / "training" / "dvae.safetensors")
    (ours / "training" / "dvae.json").write_text(json.dumps(SIZES))
    torch.save({"model": {"mel_stats": torch.linspace(2, 7, 80)}}, ours / "model.pth")
    assert CodeMaker.load(bundle_in(ours), base_model(), CPU).identity == maker.identity
    other = random_dvae()
    other.codebook.embed += 1
    assert CodeMaker.load(write_dvae(stock, other), base_model(), CPU).identity != maker.identity


def arrays(number: int, frames: int = 9) -> ClipArrays:
    rng = np.random.default_rng(number)
    return ClipArrays(
        codes=rng.integers(0, 1024, 3).astype(np.int16),
        style_mel=rng.standard_normal((frames, 80)).astype(np.float16),
        code_mel=rng.standard_normal((frames, 80)).astype(np.float16),
        num_samples=frames * 256,
    )


def same(one: ClipArrays, other: ClipArrays) -> bool:
    return one.checksum == other.checksum and one.num_samples == other.num_samples


def test_a_shard_gives_back_what_was_put_in(tmp_path: Path) -> None:
    clips = {f"{n:064x}": arrays(n, 5 + n) for n in range(4)}
    shard = Shard(write_shard(tmp_path, clips))
    assert set(shard.keys) == set(clips)
    for key, item in clips.items():
        assert shard.is_whole(key)
        assert same(shard.read(key), item)
        assert np.array_equal(shard.read(key).style_mel, item.style_mel)
    again = pickle.loads(pickle.dumps(shard))
    assert same(again.read(next(again.keys)), clips[next(again.keys)])


def test_damage_is_found_clip_by_clip(tmp_path: Path) -> None:
    clips = {"a" * 64: arrays(1), "b" * 64: arrays(2)}
    path = write_shard(tmp_path, clips)
    content = bytearray(path.read_bytes())
    at = content.find(clips["b" * 64].style_mel.tobytes())
    content[at + 100] ^= 1
    path.write_bytes(content)
    shard = Shard(path)
    assert shard.is_whole("a" * 64)
    assert not shard.is_whole("b" * 64)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_shard_that_was_cut_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_shard(tmp_path, {"a" * 64: arrays(1)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="is damaged"):
        Shard(path)


def test_the_cache_mends_what_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ClipCache(tmp_path, {"version": 1})
    cache.add("a" * 64, arrays(1))
    assert cache.find("a" * 64) is None
    cache.flush()
    shard = cache.find("a" * 64)
    assert shard is not None
    content = bytearray(shard.path.read_bytes())
    content[-1] ^= 1
    shard.path.write_bytes(content)
    later = ClipCache(tmp_path, {"version": 1})
    assert later.find("a" * 64) is None
    assert "damaged and is computed again" in caplog.text
    later.add("a" * 64, arrays(1))
    later.flush()
    assert later.find("a" * 64) is not None
    assert ClipCache(tmp_path, {"version": 1}).find("a" * 64) is not None
    shard.path.write_bytes(b"x")
    assert ClipCache(tmp_path, {"version": 1}).find("a" * 64) is None
    assert not shard.path.exists()


def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    folder = ClipCache(tmp_path, {"version": 1}).folder
    old, young = folder / ".a.safetensors.x.part", folder / ".b.safetensors.y.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    ClipCache(tmp_path, {"version": 1})
    assert (old.exists(), young.exists()) == (False, True)


def test_other_settings_have_another_cache(tmp_path: Path) -> None:
    one, two = ClipCache(tmp_path, {"version": 1}), ClipCache(tmp_path, {"version": 2})
    one.add("a" * 64, arrays(1))
    one.flush()
    assert two.find("a" * 64) is None
    assert one.folder != two.folder


def prepared_in(folder: Path) -> PreparedClips:
    clips = {f"{n:064x}": arrays(n) for n in range(3)}
    shard = write_shard(folder, clips)
    rows = [
        PreparedClip(
            name=f"clip{n}",
            side="eval" if n == 2 else "train",
            speaker="ada",
            language="en",
            text="Hello.",
            spoken="Hello.",
            token_ids=(5, 6, 7),
            num_samples=item.num_samples,
            num_codes=3,
            num_frames=9,
            key=key,
            shard=shard.name,
            audio="/nowhere.wav",
        )
        for n, (key, item) in enumerate(clips.items())
    ]
    return PreparedClips.write(folder, PreparedFor("xtts", "v", "c", 1024, 1024), rows)


def test_prepared_clips_read_back(tmp_path: Path) -> None:
    written_clips = prepared_in(tmp_path)
    clips = PreparedClips.open(written_clips.path)
    assert list(clips) == list(written_clips)
    assert clips.identity == written_clips.identity
    assert [clip.name for clip in clips.side("train")] == ["clip0", "clip1"]
    clip = clips[1]
    assert clip.num_positions == 3 + 2 + 3 + 2
    assert np.array_equal(clips.codes(clip), arrays(1).codes)
    assert clips.codes(clip).dtype == np.int64
    whole = clips.style_mel(clip)
    assert whole.shape == (80, 9)
    assert np.array_equal(clips.style_mel(clip, 2, 4), whole[:, 2:6])
    assert clips.code_mel(clip, 7, 5).shape == (80, 2)
    again = pickle.loads(pickle.dumps(clips))
    assert np.array_equal(again.style_mel(again[1]), whole)
    nothing = float(log_mel(torch.zeros(2048), 2048)[0, 0])
    assert nothing == pytest.approx(SILENCE_LOG_MEL)


def reads(clips: PreparedClips, clip: PreparedClip) -> bool:
    try:
        return len(clips.codes(clip)) > 0
    except InputError as error:
        return not (error.code == "cache_damaged" and clip.name in error.message)


def test_damaged_arrays_never_reach_a_loop(tmp_path: Path) -> None:
    clips = prepared_in(tmp_path)
    path = tmp_path / clips[0].shard
    content = bytearray(path.read_bytes())
    content[-3] ^= 255
    path.write_bytes(content)
    fresh = PreparedClips.open(clips.path)
    whole = [clip for clip in fresh if reads(fresh, clip)]
    assert len(whole) == 2
    path.unlink()
    with pytest.raises(InputError, match="run `python -m train prepare`"):
        PreparedClips.open(clips.path).codes(clips[0])


@pytest.mark.parametrize("content", ["", "{}", '{"format": 99}', "[]"])
def test_a_list_that_can_not_be_read_says_what_to_do(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match="run `python -m train prepare` again"):
        PreparedClips.open(path)


def test_a_whole_clip(tmp_path: Path) -> None:
    codes = CodeMaker.load(write_dvae(tmp_path, random_dvae()), base_model(), CPU)
    recording = load_recording(written(tmp_path / "a.wav", *samples_of(OTHER_CLIP)))
    made = FeatureMaker(codes, CPU, "dft")(recording.samples)
    num_frames = 1 + made.num_samples // 256
    assert made.style_mel.shape == made.code_mel.shape == (num_frames, 80)
    assert len(made.codes) == -(-made.num_samples // 1024)
    exact = log_mel(torch.from_numpy(recording.samples), STYLE_FFT).T.numpy()
    assert np.abs(made.style_mel - exact).max() < 0.01
