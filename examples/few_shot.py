"""From arrays to a label: two gestures, three examples of each, nothing trained.

python examples/few_shot.py
"""

import numpy as np

import skelfew

draw = np.random.default_rng(0)
still = draw.normal(size=(1, 17, 3))  # 17 joints of the layout coco, in metres


def gesture(axis: int) -> np.ndarray:
    """Return 40 frames (T, V, 3) in which the right arm swings along an axis."""
    clip = np.repeat(still, 40, axis=0) + 0.01 * draw.normal(size=(40, 17, 3))
    clip[:, [8, 10], axis] += np.sin(np.linspace(0, 6, 40))[:, None]
    return clip


examples = {name: [gesture(axis) for _ in range(3)] for axis, name in enumerate(["wave", "push"])}
recogniser = skelfew.Recogniser.learn(examples, skelfew.Model.raw("coco"))
answer = recogniser.predict(gesture(1))
print(f"{answer.label} ({answer.confidence:.2f})")
