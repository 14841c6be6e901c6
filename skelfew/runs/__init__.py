"""The run folder, the inputs of a run, and whether a cache fits them."""
