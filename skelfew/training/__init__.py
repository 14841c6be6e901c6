"""Training runs: resolve settings, read data, loop over the stages."""
