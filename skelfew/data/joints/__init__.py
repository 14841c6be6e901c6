"""Joint layouts, the maps between them, and parts of the body."""
