"""Which settings of a multi-task trial fit together: what is wrong, in words. `settings` calls these."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from raysweep.problems import did_you_mean, nearest
from raysweep.recipe import Settings
from trainables.parts.task_settings import labels_of

if TYPE_CHECKING:
    from trainables.parts.multitask.settings import (
        FreezingSettings,
        HeadSettings,
        MultitaskConfig,
        ProbeSettings,
        VectorSettings,
    )

Group = TypeVar("Group", bound=Settings)
NAME = re.compile("[a-z][a-z0-9_]*")
METRICS = {"score", "probe"}  # names that metrics of all tasks together have
TORCH = set(dir(nn.ModuleDict())) | set(dir(nn.ParameterDict()))  # a module keeps no part of such a name
LOSSES = {"classification": ("cross_entropy", "binary"), "regression": ("squared", "cosine")}


def refuse(group: Group, mistakes: Sequence[str]) -> Group:
    """The group itself. Raises ValueError with all its mistakes."""
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return group


def without_effect(group: Any, used: Mapping[str, Sequence[str]]) -> list[str]:
    """The settings that are given although the group's kind is none of those by which they are used."""
    return [
        f"{name} has no effect with kind '{group.kind}': leave it out, or use {' or '.join(kinds)}"
        for name, kinds in used.items()
        if name in group.model_fields_set and group.kind not in kinds
    ]


def head(settings: "HeadSettings") -> list[str]:
    """What a task does not allow of its loss, and a loss of its head."""
    task, kind, loss = settings.data.task, settings.kind, settings.loss_name
    if kind == "span":
        return [f"task {task} looks for answers among a text's tokens, but tasks here have one vector for each text"]
    if loss not in LOSSES[kind]:
        fitting = [name for name in LOSSES[kind] if name != "cosine" or settings.pairs]
        return [f"loss {loss} is not for {kind}: with task {task} use {' or '.join(fitting)}"]
    labels = len(labels_of(settings.data))
    given = [name for name in ("hidden", "activation", "dropout") if name in settings.model_fields_set]
    wrong = {
        f"loss binary needs two labels, and task {task} has {labels}: use cross_entropy":
            loss == "binary" and labels != 2,
        f"loss cosine compares two texts, and task {task} has one: use squared":
            loss == "cosine" and not settings.pairs,
        f"loss cosine has no head, so that {' and '.join(given)} would have no effect: leave out, or use loss squared":
            loss == "cosine" and bool(given),
    }  # fmt: skip
    return _found(wrong)


def vector(settings: "VectorSettings") -> list[str]:
    """What does not go together between an encoder and the vector."""
    return _found({
        f"combine has no effect with kind '{settings.kind}': leave it out, or use cls+mean":
            settings.combine is not None and settings.kind != "cls+mean",
        "activation is that of the projection, but projection is 0":
            settings.activation != "none" and not settings.projection,
        "residual goes around the projection, but projection is 0":
            settings.residual and not settings.projection,
    })  # fmt: skip


def encoder(config: "MultitaskConfig", width: int, depth: int) -> list[str]:
    """What does not go together with an encoder of this width, and with so many layers."""
    vector = config.pooling
    pooled = 2 * width if vector.combination == "concat" else width
    return _kept(config, depth) + _found({
        f"pooling.residual from {pooled} to {vector.projection} numbers would be a second linear layer beside the"
        f" projection, and two in sum are one: set pooling.activation, or pooling.projection to {pooled}":
            vector.residual and vector.activation == "none" and vector.projection != pooled,
    })  # fmt: skip


def freezing(settings: "FreezingSettings") -> list[str]:
    """Settings that the kind of freezing does not use, or lacks."""
    late = ("gradual", "two_phase")
    used = {"head": ("head",), "start_epoch": late, "layers_per_epoch": ("gradual",), "keep_bottom": late}
    lacking = settings.kind == "head" and not settings.head
    return without_effect(settings, used) + ["kind 'head' needs head, the task whose head is frozen"] * lacking


def probe(settings: "ProbeSettings") -> list[str]:
    """What is asked of the probe in vain."""
    given = [name for name in ("train", "train_rows") if name in settings.model_fields_set]
    return _found({
        "each_epoch has no effect while enabled is false": settings.each_epoch and not settings.enabled,
        f"nothing is trained on the probe: leave out {' and '.join(given)}": bool(given),
    })  # fmt: skip


def together(config: "MultitaskConfig") -> list[str]:
    """What settings of different groups do not allow together."""
    if not config.tasks:
        return ["tasks names none: give at least one, such as tasks: {topic: {data: {task: trec}}}"]
    return [*_names(config), *_frozen(config), *_balanced(config), *_layers(config)]


def _names(config: "MultitaskConfig") -> Iterator[str]:
    for name, task in config.tasks.items():
        if not NAME.fullmatch(name):
            yield f"tasks.{name}: a task's name has small letters, digits and _, and begins with a letter"
        elif name in METRICS:
            yield f"tasks.{name}: the metrics of all tasks together have this name: call it otherwise"
        elif name in TORCH:
            yield f"tasks.{name}: a torch module has a part of this name: call it otherwise"
        elif "task" not in task.data.model_fields_set:  # of a misspelt name too, which would be one task more
            near = nearest(name, [other for other in config.tasks if other != name])
            guess = f", or did you mean '{near}'?" if near else ""
            yield f"tasks.{name}: data.task is not given: say what is learned{guess}"


def _frozen(config: "MultitaskConfig") -> list[str]:
    frozen, named, train = config.freezing, config.tasks.get(config.freezing.head), config.train
    headless = [name for name, task in config.tasks.items() if task.loss_name == "cosine"]
    return _found({
        f"freezing.head is '{frozen.head}', but tasks are {', '.join(config.tasks)}"
        f"{_guess(frozen.head, list(config.tasks))}":
            frozen.kind == "head" and named is None,
        f"freezing.head is '{frozen.head}', but a task with loss cosine has no head":
            frozen.kind == "head" and frozen.head in headless,
        f"freezing.start_epoch {frozen.start_epoch} is not before the end, train.epochs {train.epochs}: use backbone":
            frozen.kind in ("gradual", "two_phase") and 0 < train.epochs <= frozen.start_epoch,
        "train.layer_decay has no effect, as the encoder does not learn: leave it out":
            frozen.rests and train.layer_decay != 1.0,
        f"nothing of task {', '.join(headless)} would learn: loss cosine has no head, freezing.kind is backbone, and"
        " pooling has no weights":
            frozen.kind == "backbone" and bool(headless) and not config.pooling.learns,
    })  # fmt: skip


def _guess(name: str, known: Sequence[str]) -> str:
    hint = did_you_mean(name, known)
    return f" ({hint})" if hint else ""


def _balanced(config: "MultitaskConfig") -> list[str]:
    kind, frozen = config.balance.kind, config.freezing
    apart = kind in ("gradnorm", "pcgrad")
    weights = [f"tasks.{name}.weight" for name, task in config.tasks.items() if task.weight != 1.0]
    return _found({
        f"balance.kind {kind} compares tasks: it needs two or more":
            apart and len(config.tasks) < 2,
        f"balance.kind {kind} takes a batch of every task in each step: set sampling.kind to round_robin":
            apart and config.sampling.kind != "round_robin",
        f"balance.kind {kind} compares gradients of shared weights, but sharing is none":
            apart and config.sharing == "none",
        f"balance.kind {kind} compares gradients of shared weights, but with freezing.kind {frozen.kind} none learn":
            apart and frozen.rests and not (frozen.kind == "backbone" and config.pooling.learns),
        "balance.kind uncertainty learns weights, but with freezing.kind all nothing learns":
            kind == "uncertainty" and frozen.kind == "all",
        f"{', '.join(weights)} is set, but balance.kind {kind} finds weights: leave it out, or use fixed":
            kind != "fixed" and bool(weights),
    })  # fmt: skip


def _layers(config: "MultitaskConfig") -> list[str]:
    layers = config.encoder.layers
    if layers == 0:
        return ["encoder.layers 0 leaves word vectors alone, and no encoder to share: give 1 or more"]
    return _kept(config, layers) if layers else []


def _kept(config: "MultitaskConfig", depth: int) -> list[str]:
    kept = config.freezing.keep_bottom
    return [f"freezing.keep_bottom {kept} of {depth} layers leaves none to learn: use backbone"] * (kept >= depth)


def _found(wrong: Mapping[str, bool]) -> list[str]:
    return [message for message, is_wrong in wrong.items() if is_wrong]
