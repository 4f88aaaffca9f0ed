"""What of a multi-task model learns in which epoch. Epochs count from 0, layers from the top."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from trainables.parts.encoders import layers
from trainables.parts.multitask.model import MultitaskModel
from trainables.parts.multitask.settings import FreezingSettings


@dataclass(frozen=True, slots=True)
class Open:
    """What learns: embeddings, so many top layers, the learned parts of pooling, the heads of these tasks.

    Embeddings learn only where all layers do.
    """

    embeddings: bool
    layers: int
    vector: bool
    heads: frozenset[str]


def open_at(settings: FreezingSettings, epoch: int, depth: int, tasks: Collection[str]) -> Open:
    """What learns in this epoch, of an encoder with `depth` layers."""
    heads = frozenset(tasks)
    if settings.kind == "all":
        return Open(False, 0, False, frozenset())
    if settings.kind == "head":
        return Open(True, depth, True, heads - {settings.head})
    count = _open_layers(settings, epoch, depth)
    return Open(count == depth, count, True, heads)


def _open_layers(settings: FreezingSettings, epoch: int, depth: int) -> int:
    """The top layers that learn; the embeddings do once all layers do."""
    if settings.kind == "none":
        return depth
    if settings.kind == "backbone" or epoch < settings.start_epoch:
        return 0
    most = depth - settings.keep_bottom
    assert most > 0, "settings are checked with the encoder"
    since = epoch - settings.start_epoch + 1
    return min(most, since * settings.layers_per_epoch) if settings.kind == "gradual" else most


def encoder_rests(opened: Open) -> bool:
    """Whether nothing of the encoder learns, so that pooled states stay as they are."""
    return not opened.embeddings and opened.layers == 0


def apply(model: MultitaskModel, opened: Open) -> None:
    """Let gradients flow to what learns alone; train with `encoders.train_mode`, so that the rest is in eval mode.

    Where this changes what learns, the optimizer is made anew, and `optim.carry_over` keeps the moments.
    """
    for tower in model.towers.values():
        _open_encoder(tower.encoder, opened)
        tower.vector.requires_grad_(opened.vector)
    for task, head in model.heads.items():
        head.requires_grad_(task in opened.heads)


def _open_encoder(encoder: Any, opened: Open) -> None:
    """What stands beside the layers, as a table of relative positions, may bear on them all: it learns last."""
    encoder.requires_grad_(opened.embeddings)
    if opened.layers and not opened.embeddings:
        layers(encoder)[-opened.layers :].requires_grad_(True)
