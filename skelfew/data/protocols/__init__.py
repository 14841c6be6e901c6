"""Few-shot protocols, class splits and exemplars."""
