"""A small sweep of a sentence encoder for several tasks, killed once, to a registered model that answers them all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import answer
from text_sweeps import STRANGE, assert_went_on, champion_of, found_in, killed_and_resumed

from raysweep.predictions import load_predictions
from raysweep.trial import Stretch
from trainables.multitask import Config
from trainables.parts.task_data import read_examples

SPACE = """
name: desk
recipe: multitask
seed: 5
space:
  encoder.name: embedded
  tasks.mood.data.task: sst2
  tasks.mood.loss: binary
  tasks.close.data.task: stsb
  tasks.close.data.train_rows: 96
  tasks.section: {data: {task: classification, source: news, labels: [Sport, Food, City]}}
  tasks.section.data.unlabelled: true
  probe: {enabled: true, each_epoch: true}
"""
