"""audio-voice: a self-hosted voice service and trainer around XTTS."""

__version__ = "0.1.0"
