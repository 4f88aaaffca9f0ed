"""A text model: an encoder with some of its layers, pooling, perhaps BERT's pooler and a hidden layer, a classifier.

Shapes: B texts, S tokens, H the encoder's width, K outputs. Nothing here imports raysweep: exported models use it.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.parts.adapter import blank_linear, linear_default
from trainables.parts.packed import Packed, Pooling, pool, token_states

Activation = Literal["gelu", "relu", "tanh"]
ACTIVATIONS = {"gelu": nn.functional.gelu, "relu": torch.relu, "tanh": torch.tanh}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a text model is beside its encoder; JSON. `outputs` is K; with `spans` they are given for each token."""

    outputs: int
    pooling: Pooling = "mean"
    pooler: bool = False
    hidden: int = 0
    activation: Activation = "gelu"
    dropout: float = 0.0
    spans: bool = False

    def features(self, width: int, layers: int) -> int:
        """How many numbers the hidden layer, or the classifier, takes."""
        if self.spans:
            return width if layers else 3 * width
        return 2 * width if self.pooling == "mean+max" else width


class Head(nn.Module):
    """[..., F] -> [..., K]: dropout, a hidden layer if there is one, the classifier."""

    def __init__(self, features: int, shape: Shape) -> None:
        super().__init__()
        self.hidden = blank_linear(features, shape.hidden) if shape.hidden else None
        self.classifier = blank_linear(shape.hidden or features, shape.outputs)
        self.activation, self.dropout = shape.activation, nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(x)
        if self.hidden is not None:
            x = self.dropout(ACTIVATIONS[self.activation](self.hidden(x)))
        y: Tensor = self.classifier(x)
        return y


class TextModel(nn.Module):
    """Packed texts to logits: [B, K], or [S, K] where a shape has `spans`."""

    def __init__(self, encoder: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.encoder, self.shape = encoder, shape
        config: Any = encoder.config
        width, self.layers = int(config.hidden_size), int(config.num_hidden_layers)
        self.pooler = blank_linear(width, width) if shape.pooler else None
        self.head = Head(shape.features(width, self.layers), shape)

    def forward(self, batch: Packed) -> Tensor:
        logits: Tensor = self.head(self.vectors(batch))
        return logits

    def vectors(self, batch: Packed) -> Tensor:
        """What the head takes: [B, F], or [S, F] where a shape has `spans`."""
        states = token_states(self.encoder, batch)
        if not self.shape.spans:
            states = pool(states, batch, self.shape.pooling)
        elif not self.layers:
            states = beside_question(states, batch)
        return states if self.pooler is None else torch.tanh(self.pooler(states))

    def structure(self) -> dict[str, Any]:
        """What `TextModel(encoder, Shape(**structure))` needs; JSON."""
        return asdict(self.shape)


def beside_question(states: Tensor, batch: Packed) -> Tensor:
    """[S, 3H]: each token's state, the mean state of its question, and their product.

    Without attention a token does not know what is asked; this is the least that tells it.
    """
    assert batch.types is not None
    asked = (batch.types == 0).to(states.dtype)[:, None]
    sums = states.new_zeros(len(batch.lengths), states.shape[1] + 1)
    sums = sums.index_add(0, batch.texts, torch.cat([states * asked, asked], dim=1))
    question = (sums[:, :-1] / sums[:, -1:])[batch.texts]
    return torch.cat([states, question, states * question], dim=1)


def start_head(model: TextModel, seed: int, pooler: nn.Linear | None) -> None:
    """Set all weights behind the encoder: the pooler's are given, the rest drawn."""
    if model.pooler is not None:
        assert pooler is not None
        model.pooler.load_state_dict(pooler.state_dict())
    draw_head(model.head, torch.Generator().manual_seed(seed))


def draw_head(head: Head, generator: torch.Generator) -> None:
    """Draw all weights: the classifier's as BERT draws it."""
    if head.hidden is not None:
        linear_default(head.hidden, generator)
    nn.init.normal_(head.classifier.weight, std=0.02, generator=generator)
    nn.init.zeros_(head.classifier.bias)
