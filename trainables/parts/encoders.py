"""Encoders: a fresh copy for each trial, and which part of it learns.

Weights are read once per process and copied for each trial. Mean pooling is not part of an encoder (see `pooling`), and
the pooler that BERT models carry, which no sentence vector passes through, is taken off unless it is asked for.
"""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from raysweep.problems import Problem, UserError
from raysweep.recipe import Settings
from trainables.parts import synthetic
from trainables.parts.encoder_files import (
    FRESH,
    check_vocabulary,
    encoder_config,
    encoder_folder,
    model_config,
    read_tokenizer,
    stamp,
)
from trainables.parts.silence import quiet_transformers

# Kinds whose positions are numbered from behind the padding's id, so that a few of them are never used.
FROM_PADDING = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text"}
BOTH_SIDES = {"xlnet", "bert-generation", "cpmant"}  # can write text, but see all that they are given


class EncoderSource(Settings):
    """Which encoder, and how much of it and of a text."""

    name: str = Field(
        "embedded",
        description="'embedded' (small, random), 'package:<name>', a folder, or a hub name; 'fresh:' before one of the"
        " last three takes its architecture and tokenizer alone, and the seed draws the weights",
    )
    max_length: int = Field(128, ge=4, description="tokens after which a text is cut")
    layers: int | None = Field(
        None, ge=0, description="keep only the first layers; all, if not given; 0 leaves the embeddings alone"
    )


class EncoderSettings(EncoderSource):
    """Which encoder, and which part of it learns."""

    freeze: Literal["none", "all", "first"] = Field("none", description="what is not trained: none, all, first layers")
    freeze_layers: int = Field(
        0, ge=0, description="with freeze 'first': embeddings and so many layers are not trained"
    )


@dataclass(frozen=True, slots=True)
class Encoder:
    """A trial's own encoder. `fingerprint` is the sha256 of all that it was when it was loaded, max_length included.

    `whole` counts the parameters that it has with every layer and its pooler, if it is of a kind that has one;
    `whole_embeddings` those before the first layer.
    """

    model: nn.Module
    tokenizer: Any
    hidden: int
    max_length: int
    fingerprint: str
    whole: int
    whole_embeddings: int


def load_encoder(settings: EncoderSource, seed: int, pooler: bool = False) -> Encoder:
    """A fresh copy in eval mode, every parameter trainable.

    The seed decides the weights of 'embedded' and 'fresh:...', and of a pooler that is asked for but not among the
    encoder's files. Its tokenizer can pad, and puts a mark between the texts of a pair.
    Raises UserError when the encoder is not to be had or does not suit the settings.
    """
    if problems := check_encoder(settings):
        raise UserError(problems)
    model, tokenizer, content = _base(settings.name, seed)
    model = copy.deepcopy(model)
    whole, embeddings = (count(part) for part in (model, embeddings_of(model)))
    if not pooler or getattr(model, "pooler", None) is None:
        model.pooler = None
    elif not model.pooler_is_trained:
        _draw(model.pooler.dense, model.config.initializer_range, seed)
    if settings.layers is not None:
        keep_layers(model, settings.layers)
    key = f"{content} {settings.max_length} {settings.layers}"
    fingerprint = hashlib.sha256(key.encode()).hexdigest()
    return Encoder(model, tokenizer, model.config.hidden_size, settings.max_length, fingerprint, whole, embeddings)


def count(module: nn.Module) -> int:
    """Its parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _draw(layer: nn.Linear, deviation: float, seed: int) -> None:
    """Weights as BERT starts them: normal, bias 0."""
    nn.init.normal_(layer.weight, std=deviation, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(layer.bias)


def check_encoder(settings: EncoderSource) -> list[Problem]:
    """What is wrong with the settings or the encoder's files; reads no weights."""
    problems = _check_freezing(settings) if isinstance(settings, EncoderSettings) else []
    try:
        limits = synthetic.LIMITS if settings.name == "embedded" else encoder_config(settings.name)
    except UserError as error:
        return problems + error.problems
    return problems + _beyond(settings, limits)


def _check_freezing(settings: EncoderSettings) -> list[Problem]:
    problems = []
    if settings.freeze == "first" and settings.freeze_layers == 0:
        problems.append(Problem("encoder.freeze is 'first', but encoder.freeze_layers is 0", hint="at least 1"))
    if settings.freeze != "first" and settings.freeze_layers > 0:
        problems.append(Problem(f"encoder.freeze_layers is set, but encoder.freeze is '{settings.freeze}'"))
    return problems


def _beyond(settings: EncoderSource, limits: dict[str, Any]) -> list[Problem]:
    depth = limits.get("num_hidden_layers")
    longest = limits.get("max_position_embeddings")
    if longest is not None and limits.get("model_type") in FROM_PADDING:
        longest -= limits.get("pad_token_id", 1) + 1
    frozen = settings.freeze_layers if isinstance(settings, EncoderSettings) else 0
    left = min(limit for limit in (settings.layers, depth, frozen) if limit is not None)
    asked = {
        "layers": (settings.layers, depth),
        "freeze_layers": (frozen, left),
        "max_length": (settings.max_length, longest),
    }
    return [
        Problem(f"encoder.{name} is {value}, but '{settings.name}' allows at most {most}")
        for name, (value, most) in asked.items()
        if value is not None and most is not None and value > most
    ]


def layers(model: Any) -> nn.ModuleList:
    """The transformer layers of an encoder, whatever its architecture calls them. Raises UserError if it shares one."""
    count = model.config.num_hidden_layers
    found = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if not found:
        told = f"encoder.layers and encoder.freeze 'first' need {count} layers one behind another"
        raise UserError(f"{told}, but {type(model).__name__} keeps them in another way: leave both out")
    return found[0]


def keep_layers(model: Any, count: int) -> None:
    """Take off all layers but the first ones."""
    stack, config = layers(model), model.config
    del stack[count:]
    config.num_hidden_layers = len(stack)
    if getattr(config, "layer_types", None) is not None:  # of ModernBERT, whose layers are of two kinds
        config.layer_types = config.layer_types[: len(stack)]
    if getattr(config, "attention_layers", None) is not None:  # of GPT-Neo, whose are too
        config.attention_layers = config.attention_layers[: len(stack)]
        config.attention_types = [[[kind], 1] for kind in config.attention_layers]


def freeze(encoder: Encoder, settings: EncoderSettings) -> None:
    """Stop the gradient of the frozen part; train with `train_mode`, so that its dropout is off too."""
    if settings.freeze == "all":
        encoder.model.requires_grad_(False)
    elif settings.freeze == "first":
        stack = layers(encoder.model)
        embeddings_of(encoder.model).requires_grad_(False)
        stack[: settings.freeze_layers].requires_grad_(False)


def embeddings_of(model: Any) -> nn.Module:
    """Everything before the first layer: by convention `embeddings`, or the tables of words and of positions."""
    if getattr(model, "embeddings", None) is not None:
        part: nn.Module = model.embeddings
        return part
    words = model.get_input_embeddings()
    outside = (part for name, part in model.named_modules() if not any(step.isdigit() for step in name.split(".")))
    places = [part for part in outside if isinstance(part, nn.Embedding) and part is not words]
    return nn.ModuleList([words, *places])


def is_decoder(config: Any) -> bool:
    """Whether tokens see only what stands before them, by the configuration of transformers or its config.json.

    transformers keeps a list of the kinds that can write text and one of those that can fill gaps. Kinds in the first
    alone are decoders, but for a few that write in ways of their own.
    """
    from transformers.models.auto import modeling_auto as kinds

    told = config if isinstance(config, Mapping) else config.to_dict()
    if told.get("is_decoder"):
        return True
    kind = told.get("model_type")
    both_sides = kind in BOTH_SIDES or told.get("is_encoder_decoder") or told.get("use_bidirectional_attention")
    writes, fills = (kinds.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, kinds.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    return kind in writes and kind not in fills and not both_sides


def train_mode(model: nn.Module) -> None:
    """`model.train()`, but parts whose parameters are all frozen are put in eval mode."""
    parameters = list(model.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        model.eval()
        return
    model.training = True
    for child in model.children():
        train_mode(child)


def _base(name: str, seed: int) -> tuple[Any, Any, str]:
    if name == "embedded":
        model = synthetic.encoder(seed)
        model.pooler_is_trained = False
        return model, synthetic.tokenizer(), _content_hash(model, synthetic.tokenizer())
    folder = encoder_folder(name)
    return _read(folder, stamp(folder), seed if name.startswith(FRESH) else None)


@lru_cache(maxsize=2)
def _read(folder: Path, stamp: object, seed: int | None) -> tuple[Any, Any, str]:
    """Model, with a seed of drawn weights, tokenizer and content hash, once; `stamp` changes when the files do."""
    config = model_config(folder)
    tokenizer = read_tokenizer(folder, config)
    if seed is None:
        model = _stored(folder, config)
    else:
        check_vocabulary(folder, config, tokenizer)
        model = _drawn(config, seed)
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if is_decoder(model.config):
        model.config.use_cache = False  # of keys and values for writing on, which nobody does
    return model.eval(), tokenizer, _content_hash(model, tokenizer)


def _stored(folder: Path, config: Any) -> Any:
    from transformers import AutoModel

    given = {"config": config, "dtype": torch.float32, "local_files_only": True, "output_loading_info": True}
    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # transformers draws what the files lack
        model, told = AutoModel.from_pretrained(folder, **given)
    model.pooler_is_trained = not any(name.startswith("pooler.") for name in told["missing_keys"])
    return model


def _drawn(config: Any, seed: int) -> Any:
    """As transformers starts a model of this configuration."""
    from transformers import AutoModel

    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = AutoModel.from_config(config, dtype=torch.float32)
    model.pooler_is_trained = False
    return model


def _content_hash(model: Any, tokenizer: Any) -> str:
    digest = hashlib.sha256(model.config.to_json_string().encode())
    core = copy.deepcopy(tokenizer.backend_tokenizer)
    core.no_padding()  # `batches` sets these two on the shared tokenizer, so they are not part of what it is
    core.no_truncation()
    digest.update(core.to_str().encode())
    weights = ((name, tensor) for name, tensor in model.state_dict().items() if not name.startswith("pooler."))
    for name, tensor in sorted(weights):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
