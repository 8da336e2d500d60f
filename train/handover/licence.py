"""The notice that travels with fine-tuned weights: whose they are and what that allows."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.models.bundles import XTTS_V2_LICENCE, Bundle

NOTICE_FILE = "NOTICE.txt"
#: Of licence texts beside weights, as they are called in bundles and on the hub.
_LICENCE_FILES = ("LICENSE.txt", "LICENSE", "LICENCE.txt", "LICENCE", NOTICE_FILE)
_NOT_STATED = "not stated"

_WORDS = {
    XTTS_V2_LICENCE: "It allows non-commercial use only, of the model and of what it says, and "
    "asks that this notice stays with every copy: "
    "https://huggingface.co/coqui/XTTS-v2/blob/main/LICENSE.txt",
    "CC0-1.0": "Its makers have waived all rights: nothing is asked for its part.",
}
_NOT_STATED_WORDS = (
    "No file of the starting model states its licence. Find out from whom you have it what it "
    "allows before you pass these weights on."
)


def licence_of(base: Bundle) -> str:
    """Returns the name of the starting model's licence, which its fine-tuned weights inherit."""
    return base.licence or _NOT_STATED


def notice_for(base: Bundle) -> str:
    """Returns the notice in words."""
    licence = licence_of(base)
    words = _WORDS.get(licence, _NOT_STATED_WORDS if licence == _NOT_STATED else "")
    version = f" {base.version}" if base.version else ""
    return (
        f"These weights were fine-tuned from {base.name}{version} and are derived from it.\n"
        f"Licence of {base.name}: {licence}.\n{words}\n"
        "The recordings that were learnt from have owners as well, and the voice belongs to "
        "whoever speaks: both must have agreed to what you do with it.\n"
    )


def write_notice(folder: Path, base: Bundle) -> None:
    """Writes the notice into a bundle, beside the licence texts that came with the base."""
    for name in _LICENCE_FILES:
        if (base.folder / name).is_file():
            target = f"BASE-{name}" if name == NOTICE_FILE else name
            shutil.copyfile(base.folder / name, folder / target)
    (folder / NOTICE_FILE).write_text(notice_for(base), encoding="utf-8")
