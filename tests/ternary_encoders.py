"""Small random encoders of every kind that can be ternary, and ternary layers, as the tests of them use them."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.text_models import random_model
from trainables.parts import synthetic
from trainables.parts.ternary.layer import TernaryLinear

# Of two layers: what is beside their common sizes, and how many linear layers attention and feed-forward have in each.
CHANGES: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"hidden_dim": 32},
    "roberta": {},
    "gpt2": {"n_inner": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "bitnet": {"num_key_value_heads": 1},
}
COUNTS = dict.fromkeys(CHANGES, (4, 2)) | {"gpt2": (2, 2), "bitnet": (4, 3)}


def tiny(kind: str) -> Any:
    return random_model(kind, synthetic.tokenizer(), **CHANGES[kind])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(inputs: int, outputs: int, bias: bool = True, norm: bool = False, seed: int = 0) -> TernaryLinear:
    """With weights, bias and gains drawn from a seed."""
    made = TernaryLinear(nn.Linear(inputs, outputs, bias=bias), norm)
    for number, parameter in enumerate(made.parameters()):
        parameter.data = drawn(*parameter.shape, seed=seed + number)
    return made


@torch.no_grad()
def states_of(encoder: Any) -> Tensor:
    """Of two texts of six tokens, [2, 6, H]."""
    ids = torch.arange(5, 17).view(2, 6)
    states: Tensor = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return states
