"""Small decoders in folders, with tokenizers that lack what those of GPT-2 and BitNet lack."""

import json
from pathlib import Path
from typing import Any

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers

from tests.text_models import random_model
from trainables.parts import synthetic

CHANGES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    # Every other layer sees four tokens back alone, which texts of the tests are longer than.
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "bitnet": {"num_key_value_heads": 1},
}
END = "<|endoftext|>"  # GPT-2's only mark
BEGIN, STOP = "<|begin_of_text|>", "<|end_of_text|>"  # BitNet's, which it has from Llama 3
CORPUS = [sentence for pair in synthetic.pairs("select")[:60] for sentence in pair[:2]]


def _bytes() -> Any:
    """Byte pairs of a few sentences, with no mark."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    )
    return core


def gpt_tokenizer() -> Any:
    """As GPT-2 and GPT-Neo have it: no padding, nothing around a text, nothing between two."""
    model = json.loads(_bytes().to_str())["model"]
    made = transformers.GPT2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    made.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return made


def llama_tokenizer() -> Any:
    """As BitNet has it: no padding, a mark before every text, so between two as well."""
    core = _bytes()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d{1,3}| ?\w+|\s+|[^\w\s]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.add_special_tokens([AddedToken(token, special=True) for token in (BEGIN, STOP)])
    template = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN}:1 $B:1", special_tokens=[(BEGIN, core.token_to_id(BEGIN))]
    )
    core.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token=BEGIN, eos_token=STOP)


def tokenizer_of(kind: str) -> Any:
    return llama_tokenizer() if kind == "bitnet" else gpt_tokenizer() if kind in CHANGES else synthetic.tokenizer()


def text_encoder_folder(path: Path, kind: str, weights: bool = True, **changes: Any) -> str:
    """The files of a small random decoder, or other encoder, as encoder.name takes them.

    Without weights they are those that 'fresh:' needs.
    """
    tokenizer = tokenizer_of(kind)
    tokenizer.save_pretrained(path)
    model = random_model(kind, tokenizer, **CHANGES.get(kind, {}) | changes)
    model.save_pretrained(path) if weights else model.config.save_pretrained(path)
    return str(path)


def told(folder: str, file: str = "config.json", **changes: Any) -> dict[str, Any]:
    """What a file of JSON in a folder says, with these changes, which are written."""
    found: dict[str, Any] = json.loads((Path(folder) / file).read_text()) | changes
    (Path(folder) / file).write_text(json.dumps(found))
    return found
