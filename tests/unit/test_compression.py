"""Settings of a model that is made small: which go together, and what the dense model depends on."""

from typing import Any

import pytest
from pydantic import ValidationError

from raysweep.recipe import configure, find
from trainables.parts.stages import Stage

Flat = dict[str, Any]
WEIGHTS: Flat = {"pruning.target": "weights"}
UNITS: Flat = {"pruning.target": "heads+neurons"}
FROZEN: Flat = {"encoder.freeze": "all"}
RISING: Flat = {"pruning.schedule": "cubic", "pruning.epochs": 1}


def config_of(flat: Flat) -> Any:
    return configure(find("sparse_bert"), flat)


WRONG: list[tuple[Flat, str]] = [
    ({"stages": "prune tune"}, "has tune; expected some of: prune finetune quantise"),
    ({"stages": "quantise prune"}, "quantise must come last"),
    ({"train.schedule": "plateau"}, "has no place in stages of fixed length"),
    ({"regulariser.kind": "l1"}, "but pruning.target is none"),
    (WEIGHTS | {"stages": "finetune"}, "pruning.target is set, but stages does not name prune"),
    ({"stages": "finetune", "pruning.epochs": 1}, "pruning.epochs is set, but stages does not name prune"),
    ({"stages": "prune", "train.epochs": 1}, "train.epochs is set, but stages does not name finetune"),
    ({"stages": "finetune", "quantise.kind": "fp16"}, "quantise.kind is set, but stages does not name quantise"),
    ({"data.task": "squad", "distill.kind": "logits"}, "distill.kind is for labels and numbers"),
    ({"data.task": "squad", "quantise.kind": "fp16"}, "quantise.kind fp16 is for labels and numbers"),
    ({"distill.kind": "logits", "distill.weight": 0.0}, "learns nothing from the dense model"),
    ({"distill.kind": "hidden", "encoder.layers": 0}, "compares layers, but encoder.layers is 0"),
    ({"encoder.layers": 0, "model.pooling": "cls"}, "the first token alone is the same for every text"),
    (WEIGHTS | {"pruning.rewind": True, "train.epochs": 0}, "pruning.rewind starts again before all training"),
    (WEIGHTS | {"pruning.rewind": True, "stages": "finetune prune"}, "pruning.rewind starts again before all training"),
    ({"pruning.target": "layers"}, "is not none, nor some of heads, neurons, weights, two_four"),
    ({"pruning.target": "heads+heads"}, "is not none, nor some of"),
    ({"pruning.target": "weights+two_four"}, "give one of them"),
    ({"pruning.target": "two_four", "pruning.sparsity": 0.4}, "two_four prunes exactly half"),
    (RISING | {"pruning.target": "two_four"}, "two_four has no share to rise"),
    (WEIGHTS | RISING | {"pruning.importance": "gates"}, "weights have no gates"),
    (UNITS | {"pruning.importance": "gates"}, "importance gates is learnt while training: set epochs above 0"),
    (WEIGHTS | {"pruning.schedule": "linear"}, "schedule linear rises while training"),
    (WEIGHTS | {"pruning.importance": "movement", "pruning.epochs": 1}, "is learnt first, but one_shot begins at once"),
    (WEIGHTS | {"pruning.initial_sparsity": 0.1}, "has no effect with one_shot"),
    (WEIGHTS | RISING | {"pruning.initial_sparsity": 0.7}, "initial_sparsity is above sparsity"),
    (WEIGHTS | RISING | {"pruning.begin": 0.5, "pruning.end": 0.5}, "begin must lie before end"),
    (UNITS | RISING | {"pruning.regrow": "gradient"}, "regrow brings single weights back while training"),
    (WEIGHTS | {"pruning.sparsity": 1.0}, "less than 1"),
    (
        WEIGHTS | RISING | FROZEN | {"pruning.importance": "movement"},
        "importance movement needs gradients of the encoder",
    ),
    (WEIGHTS | RISING | FROZEN | {"pruning.regrow": "gradient"}, "regrow gradient needs gradients of the encoder"),
    ({"measure.repeats": 1}, "greater than or equal to 5"),
]


@pytest.mark.parametrize(("flat", "message"), WRONG, ids=[f"{n} {message}" for n, (_, message) in enumerate(WRONG)])
def test_settings_that_do_not_go_together_are_refused(flat: Flat, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config_of(flat)


def test_all_mistakes_of_several_groups_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        config_of({"train.schedule": "plateau", "regulariser.kind": "l1", "stages": "prune", "train.epochs": 1})
    for told in ("stages of fixed length", "pruning.target is none", "does not name finetune"):
        assert told in str(caught.value)


def test_the_plan_is_stages_with_their_epochs() -> None:
    flat = {"stages": "finetune prune quantise", "train.epochs": 4, "pruning.epochs": 2}
    assert config_of(flat).plan == (Stage("finetune", 4), Stage("prune", 2), Stage("quantise", 0))


def test_trials_share_dense_models_by_their_seeds() -> None:
    assert [config_of({"dense.models": 3}).dense_seed(seed) for seed in (0, 1, 3, 101, 103)] == [0, 1, 0, 2, 1]
    assert {config_of({"dense.models": 1}).dense_seed(seed) for seed in range(9)} == {0}


LATER: list[Flat] = [
    WEIGHTS | RISING | {"regulariser.kind": "group"},
    {"train.epochs": 7, "train.patience": 2},
    {"distill.kind": "hidden", "quantise.kind": "fp16", "measure.repeats": 7},
    {"stages": "finetune prune", "variant": "another"},
]
EARLIER: list[Flat] = [
    {"dense.epochs": 5},
    {"dense.lr": 1e-3},
    {"train.lr": 1e-3},
    {"train.batch_size": 8},
    {"data.task": "mnli"},
    {"encoder.layers": 1},
    {"model.hidden": 8},
    {"embedding.freeze": True},
]


@pytest.mark.parametrize("flat", LATER, ids=lambda flat: "+".join(flat))
def test_the_dense_model_is_the_same_whatever_comes_after_it(flat: Flat) -> None:
    assert config_of(flat).dense_key(1) == config_of({}).dense_key(1)


def test_with_a_learning_rate_of_its_own_the_dense_model_does_not_depend_on_the_trials() -> None:
    one, other = (config_of({"dense.lr": 1e-3, "train.lr": lr}).dense_key(1) for lr in (1e-4, 1e-5))
    assert one == other
    assert one != config_of({"dense.lr": 1e-4, "train.lr": 1e-3}).dense_key(1)


@pytest.mark.parametrize("flat", EARLIER, ids=lambda flat: "+".join(flat))
def test_the_dense_model_is_another_one_if_it_is_trained_otherwise(flat: Flat) -> None:
    assert config_of(flat).dense_key(1) != config_of({}).dense_key(1)
    assert config_of(flat).dense_key(1) != config_of(flat).dense_key(2)
