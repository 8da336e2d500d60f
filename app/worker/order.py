"""What a worker is started with: one JSON document on its standard input.

Not arguments, which every user of the machine can read, and not `.env`: the worker works with the
very settings its api process was started with. Knows no torch.
"""

from __future__ import annotations

import msgspec

from app.devices.place_order import PlaceOrder
from app.settings import Settings

DEFAULT_SYNTHESIZER = "app.synthesis.opening:open_synthesizer"

#: Settings that are none of the worker's business.
_SECRETS = {"api_keys"}


class WorkerOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to report, as whom, and what to run.

    `parent` is the pid of the api process. `synthesizer` is `module:factory`; the factory takes
    the settings, a function that is told in words what is being done, and `place`, which wins over
    the settings; it returns a `SynthesizerProtocol`. `settings` is the JSON of `Settings`.
    """

    endpoint: str
    identity: str
    parent: int
    settings: str
    synthesizer: str = DEFAULT_SYNTHESIZER
    place: PlaceOrder = PlaceOrder()


def pack_settings(settings: Settings) -> str:
    """Returns the settings as JSON, without the secrets that a worker has no use for."""
    return settings.model_dump_json(exclude=_SECRETS)


def unpack_settings(packed: str) -> Settings:
    """Returns the settings that `pack_settings` was given; nothing else is read.

    Raises:
        pydantic.ValidationError: `packed` comes from another version of the program.
    """
    return Settings.model_validate_json(packed)
