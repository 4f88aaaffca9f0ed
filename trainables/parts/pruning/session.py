"""Pruning of one model while it trains: what the loop of a recipe calls, and what a checkpoint holds of it."""

import numpy as np
import torch
from torch import Tensor

from raysweep.trial import State
from trainables.parts.pruning import importance, penalties
from trainables.parts.pruning.gates import Gates
from trainables.parts.pruning.importance import Losses, Scores
from trainables.parts.pruning.kept import Kept
from trainables.parts.pruning.masks import Held
from trainables.parts.pruning.movement import Movement
from trainables.parts.pruning.schedules import due, regrow_share_at, sparsity_at
from trainables.parts.pruning.settings import UNITS, WEIGHTS, PruningSettings, RegulariserSettings
from trainables.parts.pruning.units import groups_of, matrices_of
from trainables.parts.text_model import TextModel


class Pruning:
    """Chooses what goes, holds it at zero, and meets the target.

    `total` counts the optimizer's steps of the stage that prunes; `losses` gives the loss of each batch of the
    calibration texts, with its graph, from the model in eval mode.
    """

    def __init__(
        self,
        settings: PruningSettings,
        regulariser: RegulariserSettings,
        model: TextModel,
        total: int,
        seed: int,
        losses: Losses,
    ) -> None:
        self._settings, self._regulariser, self._model = settings, regulariser, model
        self._total, self._seed, self._losses = total, seed, losses
        self._step, self._completed = 0, False
        self._all_groups = groups_of(model, model.encoder)
        self._all_matrices = matrices_of(model, model.encoder, settings.classifier)
        self._groups = [group for group in self._all_groups if group.kind in settings.targets]
        self._matrices = self._all_matrices if any(target in WEIGHTS for target in settings.targets) else ()
        names = {matrix.parameter: None for matrix in self._matrices}
        names |= {part.parameter: None for group in self._groups for part in group.parts}
        self._parameters = {name: model.get_parameter(name) for name in names}
        self._kept = Kept(settings, self._groups, self._matrices, self._parameters)
        self._held = Held(self._parameters)
        learnt = settings.importance if settings.on else None
        self._movement = Movement(self._parameters) if learnt == "movement" else None
        self._gates = Gates(settings, model, self._groups) if learnt == "gates" else None

    @property
    def skipped(self) -> dict[str, int]:
        """Matrices that two_four leaves whole, and how many inputs are left of them: no multiple of 4."""
        return self._kept.skipped()

    def start(self) -> None:
        """Begin the stage that prunes. What goes without training goes now."""
        at_once = self._settings.schedule == "one_shot" and self._settings.begin == 0
        if self._settings.on and (self._total == 0 or at_once):
            self._choose(self._settings.sparsity)

    def penalty(self) -> Tensor | None:
        """What is added to the loss of the next step: of gates, and of the regulariser."""
        found = []
        if self._gates is not None:
            found.append(self._gates.penalty(sparsity_at(self._settings, self._step, self._total)))
        if self._regulariser.kind == "l1":
            weights = [self._model.get_parameter(matrix.parameter) for matrix in self._all_matrices]
            found.append(self._regulariser.alpha * penalties.l1(weights))
        if self._regulariser.kind == "group":
            found.append(
                self._regulariser.alpha * penalties.group(self._all_groups, dict(self._model.named_parameters()))
            )
        return torch.stack(found).sum() if found else None

    def before_step(self, step: int) -> None:
        """Take the gradients of a step of the stage that prunes, choose anew where that is due, and mask gradients."""
        self._step = step + 1
        if self._movement is not None:
            self._movement.add()
        if self._gates is not None:
            self._gates.step()
        elif self._settings.on and due(self._settings, step, self._total):
            self._choose(sparsity_at(self._settings, step, self._total), step)
        self.mask_gradients()

    def mask_gradients(self) -> None:
        """Take pruned weights out of the gradients, before these are clipped; in every later stage too."""
        self._held.gradients()

    def after_step(self) -> None:
        """Set to zero again what is pruned; in every later stage too."""
        self._held.weights()

    def complete(self) -> None:
        """End the stage that prunes: the target is met, gates become weights, and what is pruned stays so."""
        if not self._settings.on or self._completed:
            return
        if self._gates is not None or self._kept.share != self._settings.sparsity:
            self._choose(self._settings.sparsity)
        if self._gates is not None:
            self._gates.fold(self._kept.units)
        self._gates = self._movement = None
        self._completed = True
        self.check_held()

    def check_held(self) -> None:
        """Raises AssertionError if a pruned weight is not zero, or if not exactly as many are pruned as must be."""
        assert not (broken := self._held.broken()), f"pruned weights of {broken} are not zero"
        self._kept.check()

    def report(self) -> dict[str, float]:
        """Zeros as a share of the weights that can be pruned, and pruned heads and neurons as shares of all."""
        weights = [self._model.get_parameter(matrix.parameter).detach() for matrix in self._all_matrices]
        present = sum(int(weight.count_nonzero()) for weight in weights)
        found = {"sparsity.weights": 1 - present / sum(weight.numel() for weight in weights)}
        for kind in UNITS:
            sizes = {group.name: group.units for group in self._all_groups if group.kind == kind}
            gone = sum(int((~kept).count_nonzero()) for name, kept in self._kept.units.items() if name in sizes)
            found[f"sparsity.{kind}"] = gone / sum(sizes.values())
        return found

    def kept_units(self) -> dict[str, Tensor]:
        """bool [units] by the name of the group; empty if no units are pruned."""
        return dict(self._kept.units)

    def state(self) -> State:
        """What `restore` needs, on the same model with its weights, to go on to the bit."""
        return {
            "step": self._step,
            "completed": self._completed,
            "kept": self._kept.state(),
            "movement": self._movement.state() if self._movement else {},
            "gates": self._gates.state() if self._gates else {},
        }

    def restore(self, state: State) -> None:
        """Go on from `state`. The model's weights are restored by whoever holds them."""
        self._step, self._completed = state["step"], bool(state["completed"])
        self._kept.restore(state["kept"])
        self._held.use(self._kept.masks())
        if self._completed:
            if self._gates is not None:
                self._gates.remove()
            self._gates = self._movement = None
        if self._movement is not None:
            self._movement.restore(state["movement"])
        if self._gates is not None:
            self._gates.restore(state["gates"])

    def _choose(self, share: float, step: int | None = None) -> None:
        """Let this share of each target go: what matters least in the model as it is now."""
        comes_back = self._movement is not None or self._settings.regrow != "none"
        if share == self._kept.share and not comes_back:
            return
        if self._groups:
            self._kept.choose_units(self._unit_scores(), share)
            self._hold()
        if self._matrices:
            scores = self._weight_scores()
            self._kept.choose_weights(scores, share)
            if step is not None and (exchanged := regrow_share_at(self._settings, step, self._total)):
                self._kept.exchange(scores, self._growth(step), exchanged)
            self._hold()
        self._kept.share = share

    def _unit_scores(self) -> Scores:
        if self._gates is not None:
            return self._gates.scores()
        if self._movement is not None:
            return self._movement.unit_scores(self._groups)
        found = importance.unit_scores(self._settings.importance, self._model, self._groups, self._losses, self._seed)
        return importance.last_of_all(found, self._kept.units)

    def _weight_scores(self) -> Scores:
        if self._movement is not None:
            return {matrix.parameter: self._movement.scores[matrix.parameter] for matrix in self._matrices}
        found = importance.weight_scores(
            self._settings.importance, self._model, self._matrices, self._losses, self._seed
        )
        return importance.last_of_all(found, self._kept.weights)

    def _growth(self, step: int) -> Scores:
        """What ranks the weights that come back, as RigL does it: https://arxiv.org/abs/1911.11134.

        Where a matrix is frozen there is no gradient, and nothing is exchanged.
        """
        if self._settings.regrow == "random":
            seed = int(np.random.SeedSequence((self._seed, step)).generate_state(1)[0])
            return importance.random_scores(self._kept.weights, seed)
        gradients = {name: self._parameters[name].grad for name in self._kept.weights}
        return {name: gradient.abs() for name, gradient in gradients.items() if gradient is not None}

    def _hold(self) -> None:
        """Hold at zero what is pruned now."""
        masks = self._kept.masks()
        if self._movement is not None:
            self._movement.change(masks)
        self._held.use(masks)
        self._held.weights()
