"""When each symbol of a text is spoken.

Two sources: flite tells when its own phones end, and those are matched to our symbols; a
recording of the same sentence is warped onto flite's reading of it (dynamic time warping).
Knows nothing of models; times are in seconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.text.phonemes import PUNCTUATION, is_vowel

Times = npt.NDArray[np.float32]

#: flite's phones (CMU set) as our symbols, stress left out.
_FLITE_SYMBOLS = {
    "aa": "ɑ", "ae": "æ", "ah": "ʌ", "ao": "ɔ", "aw": "aʊ", "ax": "ə", "ay": "aɪ", "b": "b",
    "ch": "tʃ", "d": "d", "dh": "ð", "eh": "ɛ", "er": "ɚ", "ey": "eɪ", "f": "f", "g": "ɡ",
    "hh": "h", "ih": "ɪ", "iy": "i", "jh": "dʒ", "k": "k", "l": "l", "m": "m", "n": "n",
    "ng": "ŋ", "ow": "oʊ", "oy": "ɔɪ", "p": "p", "r": "ɹ", "s": "s", "sh": "ʃ", "t": "t",
    "th": "θ", "uh": "ʊ", "uw": "u", "v": "v", "w": "w", "y": "j", "z": "z", "zh": "ʒ",
}  # fmt: skip
_PAUSE = "pau"
_SKIP_COST = 0.7


def flite_times(symbols: list[str], segments: list[tuple[str, float]]) -> Times:
    """Returns the middle of each symbol in seconds, from flite's phones of the same text.

    Args:
        symbols: our symbols, spaces (" ") and punctuation included.
        segments: flite's phones with their end times in seconds (`flite -psdur`).
    """
    ends = [end for _, end in segments]
    middles = [(end + start) / 2 for start, end in zip([0.0, *ends[:-1]], ends, strict=True)]
    spoken = [
        (_FLITE_SYMBOLS.get(name, name), middle)
        for (name, _), middle in zip(segments, middles, strict=True)
        if name != _PAUSE
    ]
    places = [i for i, symbol in enumerate(symbols) if symbol != " " and symbol not in PUNCTUATION]
    pairs = _match([symbols[i] for i in places], [name for name, _ in spoken])
    if not pairs:
        return np.linspace(0.0, ends[-1] if ends else 0.0, len(symbols), dtype=np.float32)
    known = [places[a] for a, _ in pairs]
    times = [spoken[b][1] for _, b in pairs]
    # The text's edges stand for the clip's edges, so leading and trailing silence have a place.
    known = [-1, *known, len(symbols)]
    times = [0.0, *times, ends[-1]]
    return np.interp(np.arange(len(symbols)), known, times).astype(np.float32)


def _cost(ours: str, theirs: str) -> float:
    bare = ours.removeprefix("ˈ")
    if bare == theirs:
        return 0.0
    return 0.5 if is_vowel(bare) == is_vowel(theirs) else 1.2


def _match(ours: list[str], theirs: list[str]) -> list[tuple[int, int]]:
    """Returns the index pairs of the cheapest edit path, both rising."""
    rows, columns = len(ours), len(theirs)
    total = np.zeros((rows + 1, columns + 1))
    total[:, 0] = np.arange(rows + 1) * _SKIP_COST
    total[0, :] = np.arange(columns + 1) * _SKIP_COST
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            total[i, j] = min(
                total[i - 1, j - 1] + _cost(ours[i - 1], theirs[j - 1]),
                total[i - 1, j] + _SKIP_COST,
                total[i, j - 1] + _SKIP_COST,
            )
    pairs: list[tuple[int, int]] = []
    i, j = rows, columns
    while i and j:
        if total[i, j] == total[i - 1, j - 1] + _cost(ours[i - 1], theirs[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif total[i, j] == total[i - 1, j] + _SKIP_COST:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def warp_times(times: Times, source: Times, target: Times, frame_s: float) -> Times:
    """Carries symbol times from one reading of a sentence to another.

    Args:
        times: seconds in the source reading.
        source: its log-mel [frames, bands].
        target: the other reading's log-mel.
        frame_s: seconds between frames.
    """
    source_path, target_path = _warp(_features(source), _features(target))
    frames = np.interp(times / frame_s, source_path, target_path)
    warped: Times = (frames * frame_s).astype(np.float32)
    return warped


def _features(mel: Times) -> Times:
    floored = np.maximum(mel.astype(np.float32), -8.0)
    smooth = floored.reshape(len(mel), -1, 4).mean(-1)  # 20 wide bands: pitch must not matter
    centred: Times = (smooth - smooth.mean(0)) / (smooth.std(0) + 1e-3)
    return centred


def _warp(source: Times, target: Times) -> tuple[Times, Times]:
    """Returns the cheapest monotonic path as two index arrays; the source's rises strictly."""
    distance = np.sqrt(
        np.maximum(
            (source**2).sum(1)[:, None] + (target**2).sum(1)[None] - 2 * source @ target.T, 0.0
        )
    )
    rows, columns = distance.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    # Cells of one anti-diagonal do not depend on each other, so each is one vector operation.
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        best = np.minimum(total[i - 1, j - 1], np.minimum(total[i - 1, j], total[i, j - 1]))
        total[i, j] = best + distance[i - 1, j - 1]
    path: dict[int, list[int]] = {}
    i_now, j_now = rows, columns
    while i_now and j_now:
        path.setdefault(i_now - 1, []).append(j_now - 1)
        steps = (total[i_now - 1, j_now - 1], total[i_now - 1, j_now], total[i_now, j_now - 1])
        step = int(np.argmin(steps))
        i_now -= step != 2
        j_now -= step != 1
    indices = np.array(sorted(path), dtype=np.float32)
    means = np.array([np.mean(path[int(i)]) for i in indices], dtype=np.float32)
    return indices, means
