"""What is known of an uploaded voice, and how it lies in `voice.json`."""

from __future__ import annotations

import msgspec

#: Of the layout of a voice's folder; a folder with a higher one is of a newer program.
LAYOUT = 1


class StoredClip(msgspec.Struct, frozen=True):
    """One reference clip of a voice: 16-bit FLAC, mono."""

    file: str  # relative to the voice's folder
    sha256: str  # of the file
    duration_s: float
    sample_rate: int


class VoiceRecord(msgspec.Struct, frozen=True):
    """One uploaded voice, as `voice.json` holds it.

    `created_at` is in seconds since 1970 (UTC). `clips` holds one clip today; the layout has room
    for more. `language` and `ref_text` are empty where the upload gave none. `consent` is the
    uploader's statement, word for word.
    """

    id: str
    name: str
    created_at: float
    consent: str
    language: str
    ref_text: str
    clips: tuple[StoredClip, ...]
    layout: int = LAYOUT

    @property
    def duration_s(self) -> float:
        """Length of all clips, in seconds."""
        return sum(clip.duration_s for clip in self.clips)

    @property
    def content_hash(self) -> str:
        """Changes with the clips' content; what is computed of a voice is cached under it."""
        return "-".join(clip.sha256 for clip in self.clips)
