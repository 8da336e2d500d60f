"""Seeds: one number reproduces a whole request.

Every segment, and every further try of one, draws from its own generator, so the audio of a
segment depends neither on how long the others took nor on the company it was decoded in.
"""

from __future__ import annotations

import hashlib
import secrets

#: Seeds are kept below 2**53, which every JSON parser reads exactly.
SEED_LIMIT = 2**53


def new_seed() -> int:
    """Returns a seed for a request that names none; it is told in the answer."""
    return secrets.randbelow(SEED_LIMIT)


def segment_seed(seed: int, segment: int, attempt: int) -> int:
    """Returns the seed of one try of one segment.

    The first try of the first segment uses the request's own seed, so that a short text gives what
    a single call of the engine with that seed gives.
    """
    if segment == 0 and attempt == 0:
        return seed
    text = f"{seed}:{segment}:{attempt}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") % SEED_LIMIT
