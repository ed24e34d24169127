"""Data sets: simulated expressions, whose truth is known, and labelled videos on disk."""

# SPDX-License-Identifier: Apache-2.0
from fastexai.datasets.action_units import (
    EMOTIONS,
    PROTOTYPES,
    UNITS,
    emotion_displacement,
    relevant_landmarks,
)
from fastexai.datasets.ck_plus import load_ck_plus
from fastexai.datasets.crema_d import load_crema_d
from fastexai.datasets.nuisances import IN_THE_WILD, Nuisances
from fastexai.datasets.own_videos import load_folder, load_manifest
from fastexai.datasets.ravdess import load_ravdess
from fastexai.datasets.simulation import (
    SimulatedClips,
    simulate_expressions,
    simulate_landmarks,
)

__all__ = [
    "EMOTIONS",
    "IN_THE_WILD",
    "PROTOTYPES",
    "UNITS",
    "Nuisances",
    "SimulatedClips",
    "emotion_displacement",
    "load_ck_plus",
    "load_crema_d",
    "load_folder",
    "load_manifest",
    "load_ravdess",
    "relevant_landmarks",
    "simulate_expressions",
    "simulate_landmarks",
]
