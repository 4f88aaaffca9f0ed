"""Where trials run: under Ray Tune, or in this process. Both drive the same `Runner` and tell the same `Sweep`."""
