"""An encoder whose layers' linear ones become ternary, to be trained so."""

from typing import Any

from torch import nn

from raysweep.problems import Problem, UserError
from trainables.parts.linear_layers import Targets, as_linear, linear_names
from trainables.parts.ternary.layer import TernaryLinear


def make_ternary(model: Any, targets: Targets = "all", norm: bool = False) -> list[str]:
    """Turn linear layers inside an encoder's layers, in place, into ternary ones; their names in `model`, in its order.

    Whatever lies before or behind the stack of layers stays as it is: embeddings, pooler, classification head. `norm`
    puts an RMSNorm before each; transformers' BitNet has its own. Do it before adapters as LoRA's are put on. Raises
    UserError where there is no such layer, or one that is quantised already and cannot be trained.
    """
    found = linear_names(model, targets)
    if problems := [_refusal(name, part) for name in found if not _trainable(part := model.get_submodule(name))]:
        raise UserError(problems)
    for name in found:
        model.set_submodule(name, _ternary(model.get_submodule(name), norm))
    return found


def _trainable(part: Any) -> bool:
    """Whether its weights are plain numbers, and not what some quantisation has made of them."""
    from transformers.integrations.bitnet import AutoBitLinear
    from transformers.pytorch_utils import Conv1D

    return type(part) in (nn.Linear, Conv1D, TernaryLinear) or (isinstance(part, AutoBitLinear) and part.online_quant)


def _refusal(name: str, part: nn.Module) -> Problem:
    message = f"{name} is a {type(part).__name__}, whose weights cannot be trained as ternary ones"
    return Problem(message, hint="load the encoder in 32 or 16 bits, without quantisation")


def _ternary(part: Any, norm: bool) -> TernaryLinear:
    """Of the same weights. What transformers would round in each product is from now on rounded here, and once."""
    if isinstance(part, TernaryLinear):
        return part
    theirs = getattr(part, "rms_norm", None)
    made = TernaryLinear(as_linear(part), norm or theirs is not None)
    if theirs is not None:
        assert made.norm is not None
        made.norm.weight, made.norm.eps = theirs.weight, theirs.variance_epsilon
    return made
