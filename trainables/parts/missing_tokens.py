"""What decoders' tokenizers lack: a token for padding, and one between the two texts of a pair."""

import json
from typing import Any

from raysweep.problems import Problem, UserError
from trainables.parts.vocabulary import Json, wrapped

ROLES = ("eos_token", "sep_token", "unk_token", "bos_token", "cls_token", "pad_token")  # the first there is will do
FIRST, SECOND = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
BARE: Json = {"type": "TemplateProcessing", "single": [FIRST], "pair": [FIRST, SECOND], "special_tokens": {}}


def completed(tokenizer: Any) -> Any:
    """A tokenizer of transformers as it is, or where it lacks something one of the same tokens that lacks nothing.

    What it ends texts with pads them too: masks hide padding, whatever its id. The same token stands between the texts
    of a pair, the second of which has type 1, as BERT's has. Raises UserError where there is no special token.
    """
    separates = _separates(tokenizer.backend_tokenizer)
    if separates and tokenizer.pad_token is not None:
        return tokenizer
    mark = next((token for role in ROLES if (token := getattr(tokenizer, role)) is not None), None)
    if mark is None:
        raise UserError(
            [Problem("its tokenizer has no special token to pad or part texts with", tokenizer.name_or_path)]
        )
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    if not separates:
        told["post_processor"] = _separating(told["post_processor"], mark, tokenizer.convert_tokens_to_ids(mark))
    # A new one, as the given one stays what it is, and of the plain class, which takes its post-processor as read.
    made = wrapped(tokenizer, told)
    if made.pad_token is None:
        made.pad_token = mark
    return made


def _separates(core: Any) -> bool:
    """Whether a pair has more marks than a text."""
    return bool(core.num_special_tokens_to_add(True) > core.num_special_tokens_to_add(False))


def _separating(processor: Json | None, mark: str, number: int) -> Json:
    """A post-processor that puts this mark behind the first text of a pair, and all else where it was."""
    parts = [] if processor is None else processor["processors"] if processor["type"] == "Sequence" else [processor]
    rest = [part for part in parts if part["type"] != "TemplateProcessing"]
    found = [part for part in parts if part["type"] == "TemplateProcessing"]
    template = found[0] if found else BARE
    special = template["special_tokens"] | {mark: {"id": mark, "ids": [number], "tokens": [mark]}}
    parted = template | {"pair": _parted(template["pair"], mark), "special_tokens": special}
    return {"type": "Sequence", "processors": [*rest, parted]}


def _parted(pair: list[Json], mark: str) -> list[Json]:
    """The pieces of a pair with a mark behind the first text; what follows it has type 1."""
    place = next(place for place, piece in enumerate(pair) if piece.get("Sequence", {}).get("id") == "A") + 1
    behind = [{kind: told | {"type_id": 1} for kind, told in piece.items()} for piece in pair[place:]]
    return [*pair[:place], {"SpecialToken": {"id": mark, "type_id": 0}}, *behind]
