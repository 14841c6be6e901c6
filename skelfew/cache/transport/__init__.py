"""Caches by address: the only room that opens a network connection."""
