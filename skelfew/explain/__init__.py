"""Attributions of a few-shot decision to the recording.

``boundary`` finds the nearest point at which the verdict changes, ``attribution`` integrates
gradients from there, ``decision`` is what is explained, ``explanation`` does all of it for a sample
of a run, and ``heatmap`` draws it. Needs the extra ``explain``.
"""
