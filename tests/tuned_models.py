"""Small random encoders as they are tuned: linear layers float, in 8 or 4 bits, or ternary, with adapters or not."""

from typing import Any

import torch
from torch import nn

from tests.ternary_encoders import CHANGES
from tests.text_models import random_model
from trainables.parts import synthetic
from trainables.parts.ternary.convert import make_ternary
from trainables.parts.tuning.lora import add_lora
from trainables.parts.tuning.quantised import load_in
from trainables.parts.tuning.settings import TuningSettings

BASES = ("float32", "int8", "nf4", "ternary")
# Blocks of nf4 are 64 weights long.
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "hidden_dim": 128, "n_inner": 128}
LORA = TuningSettings(kind="lora", rank=3, scale=2.0)


def wide(kind: str) -> Any:
    own = {name: value for name, value in WIDE.items() if name in (*CHANGES[kind], "hidden_size", "intermediate_size")}
    return random_model(kind, synthetic.tokenizer(), **CHANGES[kind] | own)


def based(kind: str, base: Any) -> Any:
    """An encoder whose linear layers are of this base."""
    encoder = wide(kind)
    if base == "ternary":
        make_ternary(encoder)
    else:
        load_in(encoder, base, "cpu")
    return encoder


def tuned(kind: str, base: str, settings: TuningSettings = LORA) -> Any:
    """As if its adapters had been trained."""
    encoder = based(kind, base)
    add_lora(encoder, settings, 1)
    generator = torch.Generator().manual_seed(2)
    for parameter in learning(encoder).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return encoder.eval()


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
