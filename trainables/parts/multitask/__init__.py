"""Several tasks on one sentence vector: settings, sampling, freezing, model, balance of losses, inputs and scores."""
