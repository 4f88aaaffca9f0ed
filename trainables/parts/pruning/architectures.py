"""Where encoders of transformers keep heads and neurons. Another kind of encoder is another entry of `ARCHITECTURES`.

Names are those of modules: of the stack of layers in the encoder, of all others in a layer.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Linears:
    """The matrices that heads, or neurons, are cut from.

    What comes out of `into` belongs to the units one behind the other, and that `blocks` times over where matrices are
    fused: queries, keys, values; or inputs, gates. It goes into `out`, in the order of the units.
    """

    into: tuple[str, ...]
    out: str
    blocks: int = 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """The stack of layers, and in each layer its heads, its neurons, and attributes that must tell how many heads.

    `counts` tell the number of heads, `widths` that number times the size of a head. `inputs` is the axis of inputs in
    all of its matrices: 1 of nn.Linear, 0 of the Conv1D of transformers.
    """

    stack: str
    heads: Linears
    neurons: Linears
    counts: tuple[str, ...] = ()
    widths: tuple[str, ...] = ()
    inputs: int = 1

    @property
    def linears(self) -> tuple[str, ...]:
        """All linear layers in a layer, in the order of their use."""
        return (*self.heads.into, self.heads.out, *self.neurons.into, self.neurons.out)


BERT = Architecture(
    stack="encoder.layer",
    heads=Linears(("attention.self.query", "attention.self.key", "attention.self.value"), "attention.output.dense"),
    neurons=Linears(("intermediate.dense",), "output.dense"),
    counts=("attention.self.num_attention_heads",),
    widths=("attention.self.all_head_size",),
)
DISTILBERT = Architecture(
    stack="transformer.layer",
    heads=Linears(("attention.q_lin", "attention.k_lin", "attention.v_lin"), "attention.out_lin"),
    neurons=Linears(("ffn.lin1",), "ffn.lin2"),
    counts=("attention.n_heads",),
)
MODERNBERT = Architecture(
    stack="layers",
    heads=Linears(("attn.Wqkv",), "attn.Wo", blocks=3),
    neurons=Linears(("mlp.Wi",), "mlp.Wo", blocks=2),
)
GPT2 = Architecture(
    stack="h",
    heads=Linears(("attn.c_attn",), "attn.c_proj", blocks=3),
    neurons=Linears(("mlp.c_fc",), "mlp.c_proj"),
    counts=("attn.num_heads",),
    widths=("attn.split_size",),
    inputs=0,
)
GPT_NEOX = Architecture(  # fused too, but head by head: one block of queries, keys and values of each head
    stack="layers",
    heads=Linears(("attention.query_key_value",), "attention.dense"),
    neurons=Linears(("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"),
)

# By config.model_type. MPNet is not among them: all its layers share one bias of positions, which has a column a head.
ARCHITECTURES = {
    "bert": BERT,
    "camembert": BERT,
    "distilbert": DISTILBERT,
    "electra": BERT,
    "gpt2": GPT2,
    "gpt_neox": GPT_NEOX,
    "modernbert": MODERNBERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
}


def architecture_of(encoder: Any) -> Architecture | None:
    """None if heads and neurons of this kind of encoder are not known."""
    return ARCHITECTURES.get(encoder.config.model_type)
