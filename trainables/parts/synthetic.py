"""Synthetic sentence pairs and an embedded encoder: to try a sweep with no download, no substitute for real data.

A sentence tells who did what to which thing and where. Each of these four slots holds a concept, and each concept has
four synonyms; how alike two sentences are is how many concepts they share. As they seldom name a shared concept by the
same word, and share idle words by chance, comparing words tells little: an encoder has to learn the synonyms.
"""

import re
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Row = tuple[str, str, float]
Split = Literal["train", "select", "report"]
ROWS: dict[Split, int] = {"train": 2000, "select": 400, "report": 400}
SEED = 20  # of the data set itself, which is the same on every machine
KEPT = (
    0.0,
    0.3,
    0.5,
    0.7,
    0.9,
)  # share of the first sentence's concepts that the second one keeps, drawn for each pair
RELATED = 0.3  # probability that a concept that is not kept becomes its relative (the other one on its line)
RELATED_SCORE = 0.4  # what a relative counts, where the same concept counts 1
SAME_WORD = 0.1  # probability that a shared concept is named by the same word
LAYERS, WIDTH, LONGEST = 2, 64, 128  # of the embedded encoder
LIMITS = {"num_hidden_layers": LAYERS, "max_position_embeddings": LONGEST}

# A line is a family of two concepts, a concept its synonyms. Verbs are those whose participle equals the past tense.
WHO = """
doctor physician medic clinician / nurse orderly caregiver attendant
teacher instructor tutor educator / student pupil learner scholar
cook chef baker caterer / waiter server steward busboy
child kid youngster toddler / grandfather grandpa elder pensioner
policeman officer constable sheriff / lawyer attorney solicitor barrister
singer vocalist soloist crooner / actor performer comedian thespian
farmer grower planter rancher / hunter trapper stalker huntsman
"""
DID = """
bought purchased acquired obtained / sold traded auctioned vended
watched observed viewed noticed / photographed filmed recorded captured
carried hauled transported lugged / tossed hurled flung lobbed
smashed shattered cracked wrecked / swiped pilfered snatched looted
built assembled constructed crafted / repaired fixed mended restored
washed rinsed scrubbed cleaned / concealed buried stashed covered
"""
THING = """
car automobile sedan coupe / bicycle bike cycle tandem
dog hound puppy mutt / cat kitten feline tabby
sofa couch settee divan / chair stool seat bench
cup mug goblet tumbler / bottle flask jug canteen
book novel volume paperback / letter note message memo
coat jacket parka overcoat / hat cap bonnet beret
clock watch timepiece chronometer / lamp lantern torch light
"""
WHERE = """
shore beach seaside coast / river stream creek brook
forest woods woodland grove / garden yard orchard lawn
street road avenue lane / market bazaar shop store
kitchen pantry galley scullery / bedroom chamber dormitory nursery
hill slope ridge knoll / field meadow pasture prairie
office bureau workplace studio / factory mill plant workshop
"""
WEIGHTS = (0.25, 0.25, 0.3, 0.2)  # of the four slots in the score
IDLE = ("old", "young", "small", "quiet", "new", "red", "strange", "local", "tall", "gentle", "busy", "tired")
SHAPES = (
    "the {who} {did} the {thing} near the {where}",
    "near the {where} the {idle} {who} {did} a {thing}",
    "a {idle} {thing} was {did} by the {who} at the {where}",
    "at the {where} the {thing} was {did} by a {who}",
    "it was the {who} who {did} the {idle} {thing} by the {where}",
    "a {who} {did} one {idle} {thing} at the {idle} {where}",
)


def _concepts(table: str) -> list[list[str]]:
    return [concept.split() for line in table.strip().splitlines() for concept in line.split(" / ")]


SLOTS = [_concepts(table) for table in (WHO, DID, THING, WHERE)]
Meaning = tuple[int, ...]  # the concept in each slot; concepts 2k and 2k+1 are relatives


def likeness(one: Meaning, other: Meaning) -> float:
    """How alike two meanings are, 0 to 1: the weight of slots with the same concept, and part of it for relatives."""
    parts = (1.0 if a == b else RELATED_SCORE if a // 2 == b // 2 else 0.0 for a, b in zip(one, other, strict=True))
    return round(sum(weight * part for weight, part in zip(WEIGHTS, parts, strict=True)), 4)


def variant_of(meaning: Meaning, rng: np.random.Generator) -> Meaning:
    """Another meaning, like this one in more or fewer slots."""
    kept = rng.choice(KEPT)
    variant = []
    for concept, slot in zip(meaning, SLOTS, strict=True):
        if rng.random() < kept:
            variant.append(concept)
        else:
            variant.append(concept ^ 1 if rng.random() < RELATED else int(rng.integers(len(slot))))
    return tuple(variant)


def worded(one: Meaning, other: Meaning, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """A word for each concept of two meanings; a shared concept mostly gets two different words."""
    first, second = [], []
    for a, b, slot in zip(one, other, SLOTS, strict=True):
        word = rng.integers(4)
        shift = 0 if a == b and rng.random() < SAME_WORD else rng.integers(1, 4)
        first.append(slot[a][word])
        second.append(slot[b][(word + shift) % 4])
    return first, second


def sentence_of(words: list[str], rng: np.random.Generator) -> str:
    """A sentence with these words in its four slots."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    while "{idle}" in shape:
        shape = shape.replace("{idle}", IDLE[rng.integers(len(IDLE))], 1)
    who, did, thing, where = words
    sentence = shape.format(who=who, did=did, thing=thing, where=where)
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)


@lru_cache(maxsize=1)
def _every_split() -> dict[Split, list[Row]]:
    rng = np.random.default_rng(SEED)
    seen: set[str] = set()
    rows: list[Row] = []
    while len(rows) < sum(ROWS.values()):
        one = tuple(int(rng.integers(len(slot))) for slot in SLOTS)
        other = variant_of(one, rng)
        first, second = (sentence_of(words, rng) for words in worded(one, other, rng))
        if not {first, second} & seen:  # no sentence stands in two pairs, so none stands in two splits
            seen |= {first, second}
            rows.append((first, second, likeness(one, other)))
    ends = np.cumsum(list(ROWS.values()))
    return {split: rows[end - count : end] for (split, count), end in zip(ROWS.items(), ends, strict=True)}


def pairs(split: Split) -> list[Row]:
    """Sentence pairs of a split with how alike they are, 0 to 1: 2000 to train, 400 to select, 400 to report."""
    return _every_split()[split]


def vocabulary() -> list[str]:
    """Every word that the sentences use, each once, in a fixed order."""
    shapes = " ".join(SHAPES).replace("{", " {").split()
    words = [word for slot in SLOTS for concept in slot for word in concept]
    return list(dict.fromkeys([*words, *IDLE, "an", *(word for word in shapes if not word.startswith("{"))]))


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """A WordPiece tokenizer of the synthetic vocabulary; other words fall into letters, so any English text will do."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    marks = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*special, *vocabulary(), *marks, *(f"##{mark}" for mark in marks), *".,;:!?'\"()-$%&/"]
    known = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    core = tokenizers.Tokenizer(tokenizers.models.WordPiece(known, unk_token="[UNK]"))
    core.normalizer = tokenizers.normalizers.BertNormalizer()
    core.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    core.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", known["[CLS]"]), ("[SEP]", known["[SEP]"])],
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=LONGEST, **names)


def encoder(seed: int) -> Any:
    """A BERT with random weights that the seed decides; about 140,000 parameters."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(tokenizer()),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LONGEST,
        initializer_range=0.05,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertModel(config).eval()
