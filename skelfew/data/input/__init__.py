"""Skeletons to network input: preprocessing, the in-memory bank, views."""
