"""Uploads of every kind are read, and nothing hostile gets past the limits."""

from __future__ import annotations

import io
import time
import tracemalloc
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from app.audio.decode import MAX_RATE, decode_clip
from app.audio.encode import StreamEncoder, encode_whole
from app.audio.pcm import to_s16
from app.errors import InputError, MediaTypeError, TooLargeError

CLIPS = Path(__file__).resolve().parents[1] / "data" / "clips"
RATE = 24_000


def tone(seconds: float = 2.0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    at = np.arange(round(seconds * rate)) / rate
    mono = 0.3 * np.sin(2 * np.pi * 220 * at)
    return np.stack([mono * (1 - 0.5 * index) for index in range(channels)], axis=1)


def written(
    samples: np.ndarray, rate: int = RATE, container: str = "WAV", subtype: str | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def muxed(muxer: str, codec: str, rate: int) -> bytes:
    """Two seconds of tone in a container that only FFmpeg writes, as phones and browsers do."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        samples = np.frombuffer(to_s16(tone(2.0, rate)[:, 0]), dtype="<i2").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode(data: bytes, max_s: float = 30.0, min_s: float = 1.0):
    return decode_clip(data, max_s=max_s, min_s=min_s)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")),
        *(("WAV", subtype) for subtype in ("FLOAT", "DOUBLE", "ULAW", "ALAW", "MS_ADPCM")),
        *(("FLAC", subtype) for subtype in ("PCM_16", "PCM_24")),
        *(("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("W64", "PCM_16")),
        *(("RF64", "PCM_16"), ("WAVEX", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_what_libsndfile_writes_is_read(container: str, subtype: str) -> None:
    samples = tone()
    clip = decode(written(samples, container=container, subtype=subtype))
    assert clip.samples.dtype == np.float32
    assert clip.sample_rate == (48_000 if subtype == "OPUS" else RATE)
    assert clip.duration_s == pytest.approx(2.0, abs=0.1)
    if subtype.startswith(("PCM", "FLOAT", "DOUBLE")):
        # A step of 8 bits for all; the finer ones are held to 16 bits.
        step = 1 / 128 if subtype == "PCM_U8" else 1 / 32768
        assert np.abs(clip.samples - samples[:, 0]).max() <= step
    assert np.sqrt(np.mean(clip.samples**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize(
    ("muxer", "codec", "rate"),
    [
        ("ipod", "aac", 44_100),
        ("mp4", "alac", 44_100),
        ("webm", "libopus", 48_000),
        ("mov", "pcm_s16le", 48_000),
        ("adts", "aac", 16_000),
    ],
)
def test_what_phones_and_browsers_record_is_read(muxer: str, codec: str, rate: int) -> None:
    clip = decode(muxed(muxer, codec, rate))
    assert clip.sample_rate == rate
    assert clip.duration_s == pytest.approx(2.0, abs=0.15)


def test_channels_are_averaged_at_the_file_s_own_rate() -> None:
    clip = decode(written(tone(1.5, 44_100, 2), 44_100, container="WAV"))
    assert clip.sample_rate == 44_100
    assert np.abs(clip.samples - 0.75 * tone(1.5, 44_100)[:, 0]).max() < 1e-4


def test_a_float_file_beyond_full_scale_is_scaled_down() -> None:
    clip = decode(written(tone() * 1e5, container="WAV", subtype="FLOAT"))
    assert np.abs(clip.samples).max() == pytest.approx(1.0)


@pytest.mark.parametrize("fmt", ["mp3", "opus", "aac", "flac", "wav"])
def test_our_own_streams_can_be_uploaded(fmt: str) -> None:
    with StreamEncoder(fmt, RATE) as encoder:
        data = encoder.encode(to_s16(tone()[:, 0])) + encoder.finish()
    assert decode(data).duration_s == pytest.approx(2.0, abs=0.1)


def test_real_speech_is_read_to_the_sample() -> None:
    path = CLIPS / "arctic_a0329_1592709356.flac"
    expected, rate = soundfile.read(path, dtype="float32")
    clip = decode(path.read_bytes())
    assert clip.sample_rate == rate
    assert np.array_equal(clip.samples, expected)


def zip_of_zeros() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("voice.wav", bytes(50_000_000))
    return file.getvalue()


NOT_AUDIO = {
    "nothing": lambda: b"",
    "text": lambda: b"This is no audio.\n" * 500,
    "a zip bomb": zip_of_zeros,
    "noise": lambda: np.random.default_rng(3).bytes(100_000),
    "a header alone": lambda: written(tone())[:20],
    "a flac cut in its header": lambda: written(tone(), container="FLAC")[:30],
    "a picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(2000),
    "an mp4 without content": lambda: b"\0\0\0\x18ftypmp42" + bytes(2000),
}


@pytest.mark.parametrize("case", NOT_AUDIO)
def test_what_is_no_audio_is_refused(case: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(NOT_AUDIO[case]())
    assert caught.value.param == "audio_sample"
    assert caught.value.status == 415
    assert "upload" in caught.value.message


@pytest.mark.parametrize("fmt", ["mp3", "aac"])
def test_a_damaged_file_is_refused(fmt: str) -> None:
    data = bytearray(encode_whole(fmt, RATE, to_s16(tone()[:, 0])))
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    with pytest.raises(MediaTypeError):
        decode(bytes(data))


def test_damage_never_becomes_noise() -> None:
    """PyAV 18 passes over a damaged frame, 17 refuses the file; neither hands out what it holds."""
    whole = encode_whole("flac", RATE, to_s16(tone(4.0)[:, 0]))
    junk = np.random.default_rng(0).bytes(1000)
    damaged = whole[: len(whole) // 2] + junk + whole[len(whole) // 2 :]
    if int(av.__version__.partition(".")[0]) < 18:
        with pytest.raises(MediaTypeError):
            decode(damaged)
        return
    clip = decode(damaged)
    assert 3.0 < clip.duration_s < 4.0
    assert np.abs(clip.samples).max() < 0.31


@pytest.mark.parametrize(
    "payload",
    [
        "ffconcat version 1.0\nfile inside.wav\n",
        "ffconcat version 1.0\nfile {path}\n",
        "ffconcat version 1.0\nfile /etc/passwd\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.0,\n{path}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.0,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXTINF:2.0,\nconcat:{path}|{path}\n",
        "[playlist]\nFile1={path}\nNumberOfEntries=1\n",
        "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ],
)
def test_playlists_never_reach_the_file_system(
    payload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file that would be read well, if it were opened: FFmpeg by itself does so for the first.
    inside = tmp_path / "inside.wav"
    inside.write_bytes(written(tone()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MediaTypeError) as caught:
        decode(payload.format(path=inside).encode())
    assert "root" not in caught.value.message


def test_ffmpeg_without_our_lists_would_open_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that the test above can fail."""
    (tmp_path / "inside.wav").write_bytes(written(tone()))
    monkeypatch.chdir(tmp_path)
    script = io.BytesIO(b"ffconcat version 1.0\nfile inside.wav\n")
    with av.open(script) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 2 * RATE


def test_two_hours_of_silence_stop_at_the_limit() -> None:
    with StreamEncoder("flac", 8000) as encoder:
        minute = bytes(2 * 60 * 8000)
        data = b"".join([*(encoder.encode(minute) for _ in range(120)), encoder.finish()])
    assert len(data) < 2_000_000
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(TooLargeError) as caught:
            decode(data, max_s=120)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (caught.value.param, caught.value.status) == ("audio_sample", 413)
    assert "120 s" in caught.value.message
    assert peak < 20_000_000  # 120 s of float32 at 8 kHz are 3.8 MB, two hours are 230 MB
    assert time.process_time() - start < 2


def test_the_limit_is_exact() -> None:
    assert decode(written(tone(2.0)), max_s=2.0).duration_s == 2.0
    with pytest.raises(TooLargeError):
        decode(written(tone(2.001)), max_s=2.0)


@pytest.mark.parametrize("seconds", [0.1, 0.999])
def test_too_short(seconds: float) -> None:
    with pytest.raises(InputError) as caught:
        decode(written(tone(seconds)))
    assert (caught.value.param, caught.value.code) == ("audio_sample", "clip_too_short")


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence(level: float) -> None:
    with pytest.raises(InputError) as caught:
        decode(written(tone() * level))
    assert (caught.value.param, caught.value.code) == ("audio_sample", "silent")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    samples = tone()
    samples[1000] = bad
    with pytest.raises(InputError) as caught:
        decode(written(samples, container="WAV", subtype="FLOAT"))
    assert (caught.value.param, caught.value.code) == ("audio_sample", "non_finite")


@pytest.mark.parametrize("rate", [4000, MAX_RATE + 1, 384_000])
def test_rates_out_of_range(rate: int) -> None:
    with pytest.raises(InputError) as caught:
        decode(written(tone(1.5, rate), rate))
    assert (caught.value.param, caught.value.code) == ("audio_sample", "sample_rate")


def test_a_video_without_sound_is_named_as_such() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), dtype=np.uint8))
        container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with pytest.raises(MediaTypeError, match="no audio track"):
        decode(file.getvalue())


def test_a_codec_off_the_list_is_refused() -> None:
    with pytest.raises(MediaTypeError, match="of a kind that is not read"):
        decode(muxed("matroska", "ac3", 48_000))


@pytest.mark.parametrize("channels", [9, 16, 64])
def test_more_channels_than_can_be_read_safely_are_refused(channels: int) -> None:
    with pytest.raises(MediaTypeError, match="more than 8 channels"):
        decode(written(tone(1.0, RATE, channels) / channels))


def test_sixteen_planar_channels_do_not_kill_the_process() -> None:
    """PyAV's conversion of such a frame ends in a segmentation fault, so it must not be tried."""
    file = io.BytesIO()
    layout = "hexadecagonal"
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream(
            "libopus", rate=48_000, layout=layout, options={"mapping_family": "255"}
        )
        frame = av.AudioFrame(format="flt", layout=layout, samples=4800)
        frame.sample_rate = 48_000
        frame.planes[0].update(np.repeat(tone(0.1, 48_000), 16).astype("<f4").tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaTypeError, match="more than 8 channels"):
        decode(file.getvalue(), min_s=0.01)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Changes a few bytes, mostly near the start, where headers are; sometimes cuts the end."""
    hurt = bytearray(data)
    for _ in range(rng.integers(1, 12)):
        reach = min(len(hurt), int(rng.choice([60, 400, len(hurt)])))
        hurt[rng.integers(reach)] = rng.integers(256)
    return bytes(hurt[: rng.integers(len(hurt))] if rng.random() < 0.2 else hurt)


SEEDS = {
    "wav": lambda: written(tone(0.3)),
    "flac": lambda: written(tone(0.3), container="FLAC"),
    "vorbis": lambda: written(tone(0.3), container="OGG", subtype="VORBIS"),
    "opus": lambda: written(tone(0.3), container="OGG", subtype="OPUS"),
    "mp3": lambda: written(tone(0.3), container="MP3", subtype="MPEG_LAYER_III"),
    "m4a": lambda: muxed("ipod", "aac", 44_100),
    "webm": lambda: muxed("webm", "libopus", 48_000),
    "aac": lambda: muxed("adts", "aac", 16_000),
}


def check_reading(data: bytes) -> str:
    """Returns how reading went; anything but audio or an error of ours is raised."""
    try:
        clip = decode(data, max_s=3, min_s=0.1)
    except InputError as error:
        return f"refused {error.param}"
    assert np.isfinite(clip.samples).all()
    assert 0.1 <= clip.duration_s <= 3
    return "read"


@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_uploads_give_audio_or_a_clear_error(kind: str) -> None:
    rng, whole = np.random.default_rng(5), SEEDS[kind]()
    outcomes = {check_reading(damaged(whole, rng)) for _ in range(60)}
    assert "refused audio_sample" in outcomes
    assert outcomes <= {"read", "refused audio_sample"}


def test_errors_name_the_field_they_are_told() -> None:
    with pytest.raises(InputError) as caught:
        decode_clip(b"", max_s=1, min_s=0, param="files")
    assert caught.value.param == "files"
    assert caught.value.message.startswith("files ")


def test_whole_files_of_ours_come_back_to_the_sample() -> None:
    pcm = to_s16(tone()[:, 0])
    for fmt in ("flac", "wav"):
        assert to_s16(decode(encode_whole(fmt, RATE, pcm)).samples) == pcm
