"""Small random encoders in folders, and the recipe's models on them, as the tests of text models use them."""

from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from raysweep.recipe import configure, find
from raysweep.trial import Trial
from tests.task_folders import Row
from trainables.parts import synthetic, text_build
from trainables.parts.batches import Tokenised
from trainables.parts.dendrites.layer import wrap
from trainables.parts.encoders import Encoder
from trainables.parts.packed import Packed, pack
from trainables.parts.text_model import TextModel

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}


def opinions(count: int, start: int = 0) -> list[Row]:
    """Rows as SST-2 has them, whose label one word tells."""
    return [
        {"sentence": f"the {('old', 'young')[number % 2]} dog {number // 2}", "label": number % 2}
        for number in range(start, start + count)
    ]


def byte_level(corpus: list[str], special_last: bool = False) -> Any:
    """A tokenizer of RoBERTa's kind; its special tokens have the first ids, or the last ones."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[] if special_last else special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(corpus, trainer)
    core.add_special_tokens([AddedToken(token, special=True) for token in special])
    core.post_processor = processors.RobertaProcessing(*((token, core.token_to_id(token)) for token in ("</s>", "<s>")))
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, **names)


def random_model(kind: str, tokenizer: Any, **changes: Any) -> Any:
    """An encoder of transformers with random weights, none of them zero, in eval mode."""
    special = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "cls", "sep")}
    sizes = {**SIZES, "vocab_size": len(tokenizer), **special, "bos_token_id": None, "eos_token_id": None}
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **sizes | changes)).eval()
    moved(model)
    return model


def encoder_folder(path: Path, kind: str, tokenizer: Any = None, **changes: Any) -> str:
    """The files of a random encoder, as encoder.name takes them."""
    tokenizer = tokenizer or synthetic.tokenizer()
    random_model(kind, tokenizer, **changes).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def moved(module: nn.Module, scale: float = 0.05) -> None:
    """Change every parameter a little, as training does, so that nothing is left at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)


def config_of(**groups: dict[str, Any]) -> Any:
    """The recipe's configuration of these groups of settings."""
    flat = {f"{group}.{name}": value for group, given in groups.items() for name, value in given.items()}
    return configure(find("dendritic_bert"), flat)


def trial_of(path: Path, config: Any) -> Trial:
    return Trial("t0000", config, 1, path, path / "shared")


def trained(config: Any, dendrites: int = 0) -> tuple[TextModel, Encoder]:
    """The recipe's model as if it had been trained, with so many dendrites where they are to grow."""
    encoder = text_build.new_encoder(config, 1)
    model = text_build.new_model(config, encoder, 1)
    if dendrites:
        layers = wrap(model, text_build.growing_layers(model, config.dendrites.target), "tanh")
        for layer in [layer for layer in layers.values() for _ in range(dendrites)]:
            layer.grow(0.1, torch.Generator().manual_seed(0))
    moved(model)
    return model.eval(), encoder


def alone(tokens: Tokenised) -> list[Packed]:
    """Each text as a batch of its own."""
    return [pack(tokens, np.array([row])) for row in range(len(tokens))]


@torch.no_grad()
def logits_alone(model: nn.Module, tokens: Tokenised) -> Tensor:
    """[N, K], or of tokens [S, K]: of a model without dropout, each text by itself."""
    return torch.cat([model(batch) for batch in alone(tokens)])
