"""A smaller vocabulary: the tokens that texts use most, for models whose weights are mostly word vectors.

A dropped token falls into smaller kept pieces, for every single character of the vocabulary stays. Works on the
tokenizer's own JSON, so that its normalizer, pre-tokenizer and post-processor remain what they were.
"""

import copy
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from raysweep.problems import Problem, UserError
from trainables.parts.batches import Texts, tokens_of

KINDS = ("WordPiece", "BPE", "Unigram")
BYTES = {f"<0x{byte:02X}>" for byte in range(256)}  # what a tokenizer that knows bytes makes of unknown characters
Ids = npt.NDArray[np.int64]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pruned:
    """A tokenizer of K tokens; `kept`, shape (K,), has the id that each of them had before."""

    tokenizer: Any
    kept: Ids


def prune(tokenizer: Any, texts: Texts, size: int | None, max_length: int) -> Pruned:
    """A new fast tokenizer that knows at most `size` tokens: those that the texts, cut at max_length, use most.

    Without a size it knows every token that they use. Special and added tokens and single characters always stay.
    The given tokenizer, of transformers, is left as it is. Raises UserError when its kind is none of `KINDS`, or when
    `size` is less than what must stay.
    """
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    if (kind := told["model"]["type"]) not in KINDS:
        message = f"a vocabulary of kind {kind} cannot be pruned: expected {', '.join(KINDS[:-1])} or {KINDS[-1]}"
        raise UserError([Problem(message, hint="keep the full vocabulary, or take another encoder")])
    staying = _staying(told)
    if size is not None and size < len(staying):
        hint = f"at least {len(staying)}: special tokens and single characters always stay"
        raise UserError([Problem(f"a vocabulary of {size} tokens is too small for this tokenizer", hint=hint)])
    kept = _kept(told["model"], staying, _by_use(tokenizer, texts, max_length), size)
    return Pruned(wrapped(tokenizer, _renumbered(told, kept)), np.array(kept, np.int64))


def _staying(told: Json) -> set[int]:
    """Added tokens, single characters and bytes, and what stands for an unknown character."""
    model, pieces = told["model"], _pieces(told["model"])
    prefix, suffix = _affixes(model)
    bare = {number: piece.removeprefix(prefix).removesuffix(suffix) for piece, number in pieces.items()}
    staying = {number for number, piece in bare.items() if len(piece) <= 1 or piece in BYTES}
    staying |= {token["id"] for token in told["added_tokens"]}
    if model["type"] != "Unigram":
        return staying | {pieces[name] for name in [model["unk_token"]] if name in pieces}
    # The lowest score of all decides what an unknown character costs.
    lowest = int(np.argmin([score for _, score in model["vocab"]]))
    return staying | {lowest} | ({model["unk_id"]} - {None})


def _by_use(tokenizer: Any, texts: Texts, max_length: int) -> list[int]:
    """The tokens of the texts, the most frequent first; of equally frequent ones the lower id."""
    own = copy.deepcopy(tokenizer)  # for its settings of padding and truncation change
    counts = np.bincount(tokens_of(own, texts, max_length).ids)
    order = np.argsort(-counts, kind="stable")
    return [int(token) for token in order[: np.count_nonzero(counts)]]


def _kept(model: Json, staying: set[int], by_use: list[int], size: int | None) -> list[int]:
    """The old ids of all that stays and of as many more tokens, in the order of their use, as there is room for."""
    pieces = _pieces(model)
    names = {number: piece for piece, number in pieces.items()}
    merges = Merges(model) if model["type"] == "BPE" else None
    chosen = set(staying)
    for token in by_use:
        if token not in chosen:
            steps = merges.steps(names[token]) if merges else []
            needed = {token, *(pieces[step] for step in steps)} - chosen
            if size is None or len(chosen) + len(needed) <= size:
                chosen |= needed
    # The library numbers added tokens that the model does not know itself behind all that it does.
    return sorted(chosen, key=lambda token: (token not in names, token))


def _pieces(model: Json) -> dict[str, int]:
    """The ids of the model's own tokens; of no tokens that were added to it."""
    if model["type"] == "Unigram":
        return {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def _affixes(model: Json) -> tuple[str, str]:
    """What stands before a piece inside a word, and behind one at a word's end; empty where nothing does."""
    return model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""


class Merges:
    """How byte-pair encoding makes a token: the earliest merge of the list first, of equal ones the leftmost."""

    def __init__(self, model: Json) -> None:
        self.prefix, self.suffix = _affixes(model)
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}

    def result(self, left: str, right: str) -> str:
        """The token that a merge makes."""
        return left + right.removeprefix(self.prefix)

    def steps(self, token: str) -> list[str]:
        """The tokens made on the way to a token. With their merges alone it is made as with all merges."""
        symbols, made = self._characters(token), []
        while ranked := [
            (self.ranks[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in self.ranks
        ]:
            place = min(ranked)[1]
            made.append(self.result(*symbols[place : place + 2]))
            symbols[place : place + 2] = [made[-1]]
        return made

    def _characters(self, token: str) -> list[str]:
        first = self.prefix if token.startswith(self.prefix) else ""
        last = self.suffix if token.endswith(self.suffix) else ""
        inner = token.removeprefix(self.prefix).removesuffix(self.suffix)
        symbols = [(self.prefix if place else first) + mark for place, mark in enumerate(inner)]
        return [*symbols[:-1], symbols[-1] + last] if symbols else [token]


def _renumbered(told: Json, kept: list[int]) -> Json:
    """The same tokenizer with these tokens alone. Its padding, which has an id, and its truncation are left out."""
    numbers = {old: new for new, old in enumerate(kept)}
    return told | {
        "model": _renumbered_model(told["model"], numbers),
        "added_tokens": [token | {"id": numbers[token["id"]]} for token in told["added_tokens"]],
        "post_processor": told["post_processor"] and _renumbered_processor(told["post_processor"], numbers),
        "padding": None,
        "truncation": None,
    }


def _renumbered_model(model: Json, numbers: dict[int, int]) -> Json:
    if model["type"] == "Unigram":
        vocabulary = [row for number, row in enumerate(model["vocab"]) if number in numbers]
        return model | {"vocab": vocabulary, "unk_id": numbers.get(model["unk_id"])}
    pieces = {piece: numbers[number] for piece, number in model["vocab"].items() if number in numbers}
    if model["type"] == "WordPiece":
        return model | {"vocab": pieces}
    result = Merges(model).result
    merges = [pair for pair in model["merges"] if {*pair, result(*pair)} <= pieces.keys()]
    return model | {"vocab": pieces, "merges": merges}


def _renumbered_processor(processor: Json, numbers: dict[int, int]) -> Json:
    """Four kinds of post-processor hold ids; the others stay as they are."""
    match processor:
        case {"type": "Sequence", "processors": parts}:
            return processor | {"processors": [_renumbered_processor(part, numbers) for part in parts]}
        case {"type": "TemplateProcessing", "special_tokens": specials}:
            renumbered = {
                name: special | {"ids": [numbers[token] for token in special["ids"]]}
                for name, special in specials.items()
            }
            return processor | {"special_tokens": renumbered}
        case {"type": "BertProcessing" | "RobertaProcessing"}:
            ends = {end: [processor[end][0], numbers[processor[end][1]]] for end in ("sep", "cls")}
            return processor | ends
    return processor


def wrapped(tokenizer: Any, told: Json) -> Any:
    """As transformers' tokenizer, with the settings of the given one that its JSON does not tell."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(told)),
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        split_special_tokens=tokenizer.split_special_tokens,
        extra_special_tokens=tokenizer.extra_special_tokens,
        **tokenizer.special_tokens_map,
    )
