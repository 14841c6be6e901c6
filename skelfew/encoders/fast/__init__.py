"""Faster forms of encoder blocks for processors, equal to rounding."""
