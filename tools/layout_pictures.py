"""Draw every joint layout and list its joints: docs/layouts.md and docs/pictures/layouts/*.svg.

python tools/layout_pictures.py docs
"""

import sys
from math import cos, pi, sin
from pathlib import Path

from skelfew.data.joints.joint_maps import joint_map
from skelfew.data.joints.layouts import LAYOUTS, Layout, layout_from_dict

# Where joints lie, x to the right and y downwards; the left side, the right one is its mirror.
MIDDLE = {
    "head": (0, -82), "nose": (0, -80), "neck": (0, -62), "shoulder_centre": (0, -56),
    "spine": (0, -30),
    "spine3": (0, -50), "thorax": (0, -56), "spine1": (0, -16), "spine2": (0, -32),
    "pelvis": (0, 0),
    "chin": (0, -69), "nose_base": (0, -78), "upper_lip": (0, -75), "upper_lip_inner": (0, -74.4),
    "lower_lip": (0, -72), "lower_lip_inner": (0, -72.8),
    **{f"nose_bridge{i}": (0, -80 - 2.2 * i) for i in range(1, 5)},
}  # fmt: skip
LEFT = {
    "eye": (5, -86), "ear": (13, -83), "mouth": (4, -74), "collar": (7, -55), "shoulder": (20, -56),
    "elbow": (32, -30), "wrist": (42, -6), "hand": (46, 4), "hand_root": (43, -3),
    "hand_tip": (52, 19),
    "thumb": (36, 10), "index": (45, 10), "pinky": (52, 6), "hip": (11, 4), "knee": (13, 42),
    "ankle": (14, 78), "foot": (20, 88), "foot_index": (20, 88), "heel": (12, 85),
    "big_toe": (19, 90),
    "small_toe": (25, 88), "eye_inner": (3, -86), "eye_outer": (7.5, -86), "eye_upper1": (4.2, -87),
    "eye_upper2": (6, -87), "eye_lower1": (4.2, -85), "eye_lower2": (6, -85), "nostril1":
    (1.2, -78),
    "nostril2": (2.4, -78.3), "upper_lip1": (1.4, -75.4), "upper_lip2": (2.8, -75),
    "mouth_inner": (3, -73.8),
    "upper_lip_inner": (1.5, -74.4), "lower_lip1": (1.4, -71.8), "lower_lip2": (2.8, -72.6),
    "lower_lip_inner": (1.5, -72.8),
    **{f"brow{i}": (1 + 1.8 * i, -89.5 - sin(i / 6 * pi)) for i in range(1, 6)},
    **{f"jaw{i}": (13 * sin(i / 16 * pi), -83 + 14 * cos(i / 16 * pi)) for i in range(1, 9)},
    **{
        f"{finger}{n}": (43 + (4 + 4 * n) * sin(turn), -3 + (4 + 4 * n) * cos(turn))
        for finger, turn in (
            ("thumb", -0.7), ("forefinger", 0.05), ("middle_finger", 0.35),
            ("ring_finger", 0.65), ("pinky", 0.95)
        )
        for n in range(1, 5)
    },
}  # fmt: skip
PLACES = {
    **MIDDLE,
    **{f"left_{name}": place for name, place in LEFT.items()},
    **{f"right_{name}": (-x, y) for name, (x, y) in LEFT.items()},
}
COLOURS = {"left": "#c2410c", "right": "#1d4ed8", "": "#475569"}
TEXT = """# Joint layouts

Made by `python tools/layout_pictures.py docs`. Each person faces you: their left (orange) is on the
right. A dot is a joint, a line a bone, the ring the joint that preprocessing puts at the origin.
Numbers are those of the arrays, from 0. Fingers and faces are drawn enlarged.

`--map-joints` of `skelfew-predict` makes the joints of one layout from those of another, so that an
encoder that was trained on one is used on the other; its notes say so. Joints are matched by
name; middles are means, and what a layout lacks takes the nearest that it has. MediaPipe's 3D
joints are kept as (-x, -y, z) of its world landmarks: metres, y upwards, z away from the camera, as
Kinect has them, so that left stays left when they are mapped.
"""


def places(layout: Layout) -> list[tuple[float, float]]:
    """Return where the joints of a layout are drawn."""
    names = list(PLACES)
    source = layout_from_dict(
        {"name": "places", "joints": names, "bones": [[n, "neck"] for n in names if n != "neck"],
         "centre": "neck"}
    )  # fmt: skip
    weights = joint_map(source, layout).weights
    return [
        (
            float(sum(w * PLACES[n][0] for w, n in zip(row, names, strict=True))),
            float(sum(w * PLACES[n][1] for w, n in zip(row, names, strict=True))),
        )
        for row in weights
    ]


def picture(layout: Layout) -> str:
    """Return a layout as SVG."""
    points = places(layout)
    small = len(layout) > 40
    size = 0.9 if small else 1.8
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="-70 -106 140 206" width="420">']
    lines.append('<rect x="-70" y="-106" width="140" height="206" fill="#fff"/>')
    for child, parent in layout.bones:
        (x1, y1), (x2, y2) = points[child], points[parent]
        side = layout.joints[child].partition("_")[0]
        colour = COLOURS.get(side, COLOURS[""])
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        lines.append(f'<line {ends} stroke="{colour}" stroke-width="{size / 2}"/>')
    for joint, (x, y) in enumerate(points):
        colour = COLOURS.get(layout.joints[joint].partition("_")[0], COLOURS[""])
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}"/>')
        if not small or joint < 23:
            at = f'x="{x + 2:.1f}" y="{y - 1.5:.1f}" font-size="4" font-family="sans-serif"'
            lines.append(f"<text {at}>{joint}</text>")
    x, y = points[layout.root]
    ring = f'cx="{x:.1f}" cy="{y:.1f}" r="{size + 1.5}"'
    lines.append(f'<circle {ring} fill="none" stroke="#000" stroke-width="0.6"/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main(docs: Path) -> None:
    """Write the page and its pictures."""
    folder = docs / "pictures" / "layouts"
    folder.mkdir(parents=True, exist_ok=True)
    page = [TEXT]
    for name, layout in LAYOUTS.items():
        (folder / f"{name}.svg").write_text(picture(layout), encoding="utf-8")
        listed = ", ".join(f"{i} `{joint}`" for i, joint in enumerate(layout.joints))
        about = f"{len(layout)} joints; origin at `{layout.joints[layout.root]}`."
        page.append(
            f"## {name}\n\n![{name}](pictures/layouts/{name}.svg)\n\n{about}\n\n{listed}.\n"
        )
    (docs / "layouts.md").write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
