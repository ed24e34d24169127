"""Fewer landmarks: search on training clips, fit again, judge on others, and compare with chance."""

# SPDX-License-Identifier: Apache-2.0
from fastexai.pruning.path import PruningPath
from fastexai.pruning.procedure import prune
from fastexai.pruning.selector import LandmarkSelector

__all__ = ["LandmarkSelector", "PruningPath", "prune"]
