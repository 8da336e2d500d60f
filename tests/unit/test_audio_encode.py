"""Every format decodes to what went in: to the sample, or to the codec's delay."""

from __future__ import annotations

import io
import struct
import wave
from collections.abc import Iterator

import av
import numpy as np
import pytest
import soundfile

from app.audio.encode import FORMATS, StreamEncoder, content_type, encode_whole
from app.audio.pcm import from_s16, to_s16
from app.errors import InputError, OutputError

RATE = 24_000
#: Samples before the first one, at 24 kHz: LAME's delay, and AAC's priming frame.
STREAM_DELAY = {"mp3": 1105, "aac": 1024, "opus": 0, "flac": 0, "wav": 0, "pcm": 0}
WHOLE_DELAY = {**STREAM_DELAY, "mp3": 0}
#: Most samples after the last one: the rest of a frame (and one more frame of LAME's).
STREAM_EXTRA = {"mp3": 2 * 576, "aac": 1024}
#: Least correlation of the codec's output with what went in.
LIKENESS = {"mp3": 0.99, "aac": 0.99, "opus": 0.97}


def noise_bursts(num_samples: int) -> np.ndarray:
    """Band-limited noise that swells and fades, like syllables, with a mark at either end."""
    rng = np.random.default_rng(7)
    smooth = np.convolve(rng.standard_normal(num_samples), np.hanning(9), "same")
    swell = 0.6 + 0.4 * np.sin(np.arange(num_samples) / RATE * 2 * np.pi * 4)
    return (smooth * swell * 0.1).clip(-0.9, 0.9).astype(np.float32)


def encode_in_pieces(fmt: str, pcm: bytes, size: int, rate: int = RATE) -> bytes:
    with StreamEncoder(fmt, rate) as encoder:
        parts = [encoder.encode(pcm[at : at + size]) for at in range(0, len(pcm), size)]
        return b"".join([*parts, encoder.finish()])


def decode(fmt: str, data: bytes, rate: int = RATE) -> np.ndarray:
    """Decodes with FFmpeg to float at `rate`, whatever rate the decoder prefers."""
    if fmt == "pcm":
        return from_s16(data)
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(audio=0))
    blocks = [frame.to_ndarray().reshape(-1) for frame in frames]
    samples = np.concatenate(blocks)
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32768
    return samples[:: frames[0].sample_rate // rate]  # Opus comes at 48 kHz


def lag_of(made: np.ndarray, meant: np.ndarray) -> int:
    size = 1 << (len(made) + len(meant)).bit_length()
    both = np.fft.irfft(np.fft.rfft(made, size) * np.conj(np.fft.rfft(meant, size)))
    at = int(both.argmax())
    return at if at < size // 2 else at - size


@pytest.mark.parametrize("piece", [2, 514, 4096, 48_000, 1_000_000])
@pytest.mark.parametrize("fmt", FORMATS)
def test_streamed_audio_comes_back_with_its_tail(fmt: str, piece: int) -> None:
    meant = noise_bursts(2 * RATE + 777 if piece > 2 else 3001)
    pcm = to_s16(meant)
    made = decode(fmt, encode_in_pieces(fmt, pcm, piece))
    if FORMATS[fmt].lossless:
        assert to_s16(made) == pcm
        return
    delay = STREAM_DELAY[fmt]
    extra = len(made) - len(meant) - delay
    assert 0 <= extra <= STREAM_EXTRA.get(fmt, 0)
    assert abs(lag_of(made, meant) - delay) <= 1
    aligned = made[delay : delay + len(meant)]
    # The last 20 ms, where a stream that is closed too late loses its end.
    for part in (slice(None), slice(-RATE // 50, None)):
        assert np.corrcoef(aligned[part], meant[part])[0, 1] > LIKENESS[fmt] - 0.1


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_whole_file_has_its_true_length(fmt: str) -> None:
    meant = noise_bursts(RATE + 345)
    data = encode_whole(fmt, RATE, to_s16(meant))
    made = decode(fmt, data)
    if FORMATS[fmt].lossless:
        assert to_s16(made) == to_s16(meant)
    elif fmt != "aac":  # ADTS has no place to say what to cut
        assert len(made) == len(meant)
    delay = WHOLE_DELAY[fmt]
    assert lag_of(made, meant) == pytest.approx(delay, abs=1)
    aligned = made[delay : delay + len(meant)]
    assert np.corrcoef(aligned, meant)[0, 1] > LIKENESS.get(fmt, 0.99)


@pytest.mark.parametrize("fmt", ["wav", "flac", "opus", "mp3"])
def test_libsndfile_reads_the_length_of_whole_files(fmt: str) -> None:
    data = encode_whole(fmt, RATE, to_s16(noise_bursts(RATE)))
    info = soundfile.info(io.BytesIO(data))
    assert (info.frames, info.samplerate, info.channels) == (RATE, RATE, 1)


def test_wav_sizes_are_right_in_a_file_and_unknown_in_a_stream() -> None:
    pcm = to_s16(noise_bursts(1000))
    whole = encode_whole("wav", RATE, pcm)
    assert struct.unpack_from("<I", whole, 4)[0] == len(whole) - 8
    assert struct.unpack_from("<I", whole, 40)[0] == len(pcm) == len(whole) - 44
    with wave.open(io.BytesIO(whole)) as reader:
        assert (reader.getnframes(), reader.getframerate()) == (1000, RATE)

    stream = encode_in_pieces("wav", pcm, 100)
    assert stream[4:8] == stream[40:44] == b"\xff" * 4
    assert stream[44:] == pcm
    samples, rate = soundfile.read(io.BytesIO(stream), dtype="int16")
    assert (samples.astype("<i2").tobytes(), rate) == (pcm, RATE)
    with wave.open(io.BytesIO(stream)) as reader:
        assert reader.readframes(reader.getnframes()) == pcm


@pytest.mark.parametrize("fmt", FORMATS)
def test_bytes_come_while_samples_go_in(fmt: str) -> None:
    pcm = to_s16(noise_bursts(RATE))
    with StreamEncoder(fmt, RATE) as encoder:
        half_a_second = encoder.encode(pcm[:RATE])
        assert len(half_a_second) > 1000
        # 60 ms pages of Opus, 192 ms blocks of FLAC: the most a listener waits for the encoder.
        assert any(encoder.encode(pcm[:480]) for _ in range(RATE // 5 // 240))


@pytest.mark.parametrize("fmt", FORMATS)
def test_no_samples_make_a_file_without_samples(fmt: str) -> None:
    with StreamEncoder(fmt, RATE) as encoder:
        data = encoder.encode(b"") + encoder.finish()
        assert encoder.finish() == b""
    assert data == b"" if fmt in {"pcm", "aac"} else True
    if fmt == "wav":
        assert len(soundfile.read(io.BytesIO(encode_whole(fmt, RATE, b"")))[0]) == 0


@pytest.mark.parametrize("fmt", ["mp3", "opus", "aac", "flac"])
def test_a_response_that_is_left_releases_its_encoder(fmt: str) -> None:
    held: list[StreamEncoder] = []

    def stream() -> Iterator[bytes]:
        with StreamEncoder(fmt, RATE) as encoder:
            held.append(encoder)
            while True:
                yield encoder.encode(b"\0\0" * 480)

    response = stream()
    next(response)
    response.close()  # what a server does when the client leaves: GeneratorExit
    with pytest.raises(ValueError, match="closed"):
        held[0].encode(b"\0\0")
    assert held[0].finish() == b""
    held[0].abort()


@pytest.mark.parametrize("fmt", FORMATS)
def test_half_a_sample_is_a_mistake_of_the_caller(fmt: str) -> None:
    with StreamEncoder(fmt, RATE) as encoder, pytest.raises(ValueError, match="pairs"):
        encoder.encode(b"\0\0\0")
    with pytest.raises(ValueError, match="pairs"):
        encode_whole(fmt, RATE, b"\0")


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("fmt", FORMATS)
def test_other_rates_keep_the_duration(fmt: str, rate: int) -> None:
    data = encode_in_pieces(fmt, to_s16(noise_bursts(rate)), 2000, rate)
    if fmt == "pcm":
        assert len(data) == 2 * rate
        return
    with av.open(io.BytesIO(data)) as container:
        seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert seconds == pytest.approx(1.0, abs=1e-9 if FORMATS[fmt].lossless else 0.3)


def test_an_unknown_format_is_refused_with_the_list() -> None:
    for call in (lambda: StreamEncoder("ogg", RATE), lambda: encode_whole("MP3", RATE, b"")):
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.param == "response_format"
        assert all(name in caught.value.message for name in FORMATS)


def test_content_types() -> None:
    assert {name: content_type(name) for name in FORMATS} == {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
    assert content_type("pcm", RATE) == "audio/pcm;rate=24000;channels=1"
    assert content_type("wav", RATE) == "audio/wav"


def test_s16_goes_there_and_back_and_holds_the_ends() -> None:
    every = np.arange(-32768, 32768, dtype="<i2").tobytes()
    assert to_s16(from_s16(every)) == every
    assert to_s16(np.array([2.0, -2.0, 1.0, -1.0, 0.0])) == struct.pack(
        "<5h", 32767, -32768, 32767, -32768, 0
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_s16_has_no_place_for_what_is_not_finite(bad: float) -> None:
    with pytest.raises(OutputError, match="not finite"):
        to_s16(np.array([0.0, bad]))
