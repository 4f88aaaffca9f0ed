"""What sentence vectors are worth by themselves: how well their cosines follow the scores of pairs never trained on."""

import numpy as np
import torch
import torch.nn.functional as F

from raysweep.trial import Scored
from trainables.parts.data import Split, read_pairs
from trainables.parts.encoders import Encoder
from trainables.parts.multitask.inputs import sentence_vectors
from trainables.parts.multitask.model import MultitaskModel, Tower
from trainables.parts.multitask.settings import ProbeSettings


def probe_score(settings: ProbeSettings, model: MultitaskModel, encoder: Encoder, split: Split, device: str) -> Scored:
    """The cosine of each pair's vectors beside its score, for their rank correlation.

    Where each task has a tower, it is the mean of their cosines: that of their unit vectors side by side. Raises
    UserError where the pairs cannot be read.
    """
    pairs = read_pairs(settings, split)

    def cosines(tower: Tower) -> torch.Tensor:
        vectors = sentence_vectors(tower, encoder, [*pairs.first, *pairs.second], device)
        first, second = torch.from_numpy(vectors).double().chunk(2)
        return F.cosine_similarity(first, second)

    found = [cosines(tower) for tower in model.towers.values() if isinstance(tower, Tower)]
    return Scored(np.mean([one.numpy() for one in found], axis=0), pairs.scores, "spearman")
