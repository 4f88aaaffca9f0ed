"""How the weights of an encoder are tuned: all of them, few beside them, in which numbers, by which optimizer."""
