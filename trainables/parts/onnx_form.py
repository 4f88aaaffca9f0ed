"""A text model as an ONNX file: texts padded to one length in, logits out.

Shapes: B texts, T tokens of the longest, H the encoder's width, K outputs; a file takes any B and T.
"""

import copy
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from trainables.parts.packed import Pooling, has_types
from trainables.parts.silence import silenced
from trainables.parts.text_model import TextModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"


class PaddedModel(nn.Module):
    """The logits of a `TextModel`, which takes no padding, from padded texts."""

    def __init__(self, model: TextModel) -> None:
        super().__init__()
        assert not model.shape.spans, "tokens are not pooled"
        self.encoder, self.pooler, self.head = model.encoder, model.pooler, model.head
        self.pooling = model.shape.pooling

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Three times [B, T] int64 -> [B, K]; the last one only where the encoder knows types."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        vectors = pool_padded(self.encoder(**inputs).last_hidden_state, attention_mask, self.pooling)
        if self.pooler is not None:
            vectors = torch.tanh(self.pooler(vectors))
        logits: Tensor = self.head(vectors)
        return logits


def pool_padded(states: Tensor, mask: Tensor, kind: Pooling) -> Tensor:
    """One vector a text of its own tokens' states [B, T, H]: [B, H], or [B, 2H] for "mean+max"."""
    if kind == "cls":
        return states[:, 0]
    if kind == "last":
        return states.take_along_dim(mask.sum(1)[:, None, None] - 1, dim=1)[:, 0]
    if kind == "mean+max":
        return torch.cat([pool_padded(states, mask, "mean"), pool_padded(states, mask, "max")], dim=1)
    own = mask[:, :, None] > 0
    if kind == "max":
        return states.masked_fill(~own, torch.finfo(states.dtype).min).amax(1)
    return states.masked_fill(~own, 0.0).sum(1) / own.sum(1).clamp(min=1)


def padded_form(model: TextModel) -> PaddedModel:
    """A copy on the CPU, in float32 and eval mode, that torch can trace."""
    with torch.random.fork_rng(devices=[]):
        model = copy.deepcopy(model).cpu().float().eval()
    encoder: Any = model.encoder
    # Attention in single steps: what torch's fused one becomes in ONNX guards against rows without any token, which
    # takes more nodes.
    encoder.set_attn_implementation("eager")
    encoder.config.use_cache = False  # of a decoder, whose keys and values nobody asks for
    return PaddedModel(model).eval()


def input_names(encoder: nn.Module) -> tuple[str, ...]:
    """The inputs of a model with this encoder."""
    return INPUTS if has_types(encoder) else INPUTS[:2]


def export_onnx(model: TextModel, file: Path) -> None:
    """Write a model in float32, in one file, which ONNX lets have up to 2 GB."""
    form = padded_form(model)
    names = input_names(form.encoder)
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 4:] = 0
    example = {"input_ids": 3 * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(mask)}
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with silenced(), torch.no_grad():
        program = torch.onnx.export(
            form,
            tuple(example[name] for name in names),
            input_names=names,
            output_names=[OUTPUT],
            dynamic_shapes=(free,) * len(names),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    onnx.save(_bare(program.model_proto), file)


def _bare(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without shapes of intermediate results, which are sometimes wrong, and without traces of the source code."""
    model.graph.ClearField("value_info")
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model
