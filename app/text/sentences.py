"""Sentences that a model is tried with: at its start, by `check`, and before it takes an alias."""

from __future__ import annotations

from collections.abc import Sequence

_SENTENCES = {
    "en": (
        "The wind rose before the morning came.",
        "They were three hundred yards apart, and nobody spoke.",
        "In the evening the ships came back to the harbour, one after the other.",
    ),
    "pt": (
        "O vento aumentou antes de chegar a manhã.",
        "Eles estavam longe um do outro, e ninguém falava.",
        "À noite os barcos voltaram ao porto, um depois do outro.",
    ),
    "de": (
        "Der Wind nahm zu, bevor der Morgen kam.",
        "Sie standen weit auseinander, und niemand sprach.",
        "Am Abend kamen die Schiffe in den Hafen zurück, eines nach dem anderen.",
    ),
    "es": (
        "El viento se levantó antes de que llegara la mañana.",
        "Estaban lejos el uno del otro, y nadie hablaba.",
        "Por la tarde los barcos volvieron al puerto, uno tras otro.",
    ),
    "fr": (
        "Le vent s'est levé avant le matin.",
        "Ils étaient loin l'un de l'autre, et personne ne parlait.",
        "Le soir, les bateaux sont rentrés au port, l'un après l'autre.",
    ),
}


def sentences_for(languages: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Returns the first of a model's languages that has sentences here, with its three.

    A model that knows none of them is given English words under its own first language.

    Args:
        languages: codes, at least one.
    """
    language = next((code for code in languages if code in _SENTENCES), languages[0])
    return language, _SENTENCES.get(language, _SENTENCES["en"])
