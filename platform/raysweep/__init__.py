"""raysweep: sweeps of training recipes that find small and fast text models, and prove what they find."""

__version__ = "0.1.0"
