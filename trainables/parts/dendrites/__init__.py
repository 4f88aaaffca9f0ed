"""Artificial dendrites: extra branches that a trained linear layer grows when its score stops rising.

`layer` is all that a finished model needs, and this module hands out only that: a served model must not need raysweep.
`settings` and `growth` are for recipes.
"""

from trainables.parts.dendrites.layer import DendriticLayer, Structure, dendritic_layers, rebuild, structure

__all__ = ["DendriticLayer", "Structure", "dendritic_layers", "rebuild", "structure"]
