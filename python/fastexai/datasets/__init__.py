"""Data sets whose truth is known: simulated facial expressions."""

# SPDX-License-Identifier: Apache-2.0
from fastexai.datasets.action_units import (
    EMOTIONS,
    PROTOTYPES,
    UNITS,
    emotion_displacement,
    relevant_landmarks,
)
from fastexai.datasets.simulation import (
    SimulatedClips,
    simulate_expressions,
    simulate_landmarks,
)

__all__ = [
    "EMOTIONS",
    "PROTOTYPES",
    "UNITS",
    "SimulatedClips",
    "emotion_displacement",
    "relevant_landmarks",
    "simulate_expressions",
    "simulate_landmarks",
]
