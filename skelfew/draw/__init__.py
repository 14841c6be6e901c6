"""Skeletons as pictures, with Pillow: what skelfew-show draws, and open to other code that draws.

    scene = Scene.around(positions, load_layout("kinect-v2"), view="side")
    moments = evenly(positions.shape[1], 8)
    panel = Panel("side", [scene.draw(t) for t in moments])
    strip([panel], [str(t) for t in moments], Heading("my sample")).save("strip.png")

``stage`` places joints (M, T, V, C) on a picture and draws them, ``sheets`` puts pictures together
and ``sample`` does both for a row of a manifest. Needs the extra ``show`` (or ``extract``).
"""

from skelfew.draw.sheets import Heading, Panel, animation, save_animation, strip
from skelfew.draw.stage import PALETTES, UPS, VIEWS, Scene, draw_body, evenly

__all__ = [
    "PALETTES", "UPS", "VIEWS", "Heading", "Panel", "Scene", "animation", "draw_body", "evenly",
    "save_animation", "strip",
]  # fmt: skip
