"""Joint layouts: which joints a skeleton has, how they are connected, what is left and right.

A layout is a tree of joints that hangs from its ``centre``; encoders build their graph from it.
To use your own, write a TOML file and give its path wherever a layout name is asked for::

    name = "my-rig"
    joints = ["head", "neck", "left_hand", "right_hand"]  # in the order of your arrays
    bones = [["head", "neck"], ["left_hand", "neck"], ["right_hand", "neck"]]
    centre = "neck"                                       # the graph hangs from it
    root = "neck"                                         # optional: put at the origin
    left_right = [["left_hand", "right_hand"]]            # optional
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skelfew.data.joints.trees import TREES
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values, brief, duplicates, read_toml, shown

_MOST_JOINTS = 1000


@dataclass(frozen=True)
class Layout:
    """The joints of a skeleton format; all indices are 0-based."""

    name: str  # E.g. ``kinect-v2``.
    joints: tuple[str, ...]  # joint names in the order of the arrays (V of them)
    # (child, parent) pairs, V - 1 of them, a tree that hangs from ``centre``
    bones: tuple[tuple[int, int], ...]
    centre: int  # the joint that the graph hangs from
    root: int  # the joint that preprocessing moves to the origin
    mirror: tuple[tuple[int, int], ...] = ()  # (left, right) pairs

    def same_graph(self, other: "Layout") -> bool:
        """Return whether both have the same joints in the same order, bones and centre."""
        mine, theirs = (
            (layout.joints, set(layout.bones), layout.centre) for layout in (self, other)
        )
        return mine == theirs

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def parents(self) -> tuple[int, ...]:
        """Parent of every joint (V,); the centre is its own."""
        parent = dict(self.bones)
        return tuple(parent.get(joint, joint) for joint in range(len(self.joints)))

    def to_dict(self) -> Document:
        """Return the content of the TOML file that describes this layout."""
        names = self.joints
        return {
            "name": self.name,
            "joints": list(names),
            "bones": [[names[child], names[parent]] for child, parent in self.bones],
            "centre": names[self.centre],
            "root": names[self.root],
            "left_right": [[names[left], names[right]] for left, right in self.mirror],
        }


def load_layout(name_or_path: Layout | str | Path) -> Layout:
    """Return a built-in layout by name, or one's own from a TOML file (see the module's text).

    A Layout is returned as it is.

    Raises:
        SkelfewError: No such name or file, or a description that is not a tree of its joints.
    """
    if isinstance(name_or_path, Layout):
        return name_or_path
    if str(name_or_path) in LAYOUTS:
        return LAYOUTS[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise SkelfewError(
            f"no joint layout {str(name_or_path)!r}; there are {', '.join(LAYOUTS)}, "
            "or give the path of a .toml file that describes yours"
        )
    try:
        content = read_toml(path)
    except OSError as error:
        raise SkelfewError(f"{path}: cannot read the layout ({brief(error.strerror)})") from None
    except ValueError as error:
        raise SkelfewError(f"{path}: not a TOML file ({brief(error)})") from None
    return layout_from_dict({"name": path.stem, **content}, str(path))


def layout_from_dict(content: Values, where: str = "layout") -> Layout:
    """Build a layout from joint names; the inverse of ``Layout.to_dict``.

    Args:
        content: ``name, joints, bones, centre`` and, optionally, ``root, left_right``; the two
            names of a bone may be in either order.
        where: What to call it in error messages.

    Raises:
        SkelfewError: Missing or unknown keys, unknown or repeated names, not one connected tree.
    """
    if not isinstance(content, Mapping):
        raise SkelfewError(f"{where}: {shown(content)} is no layout")
    required, optional = {"name", "joints", "bones", "centre"}, {"root", "left_right"}
    if missing := sorted(required - set(content)):
        raise SkelfewError(
            f"{where}: {missing[0]!r} is missing; see skelfew/data/joints/layouts.py"
        )
    if unknown := sorted(set(content) - required - optional):
        known = ", ".join(sorted(required | optional))
        raise SkelfewError(f"{where}: unknown key {shown(unknown[0])}; expected {known}")
    joints = _names(content["joints"], "joints", where)
    if len(set(joints)) < len(joints) or not 2 <= len(joints) <= _MOST_JOINTS:
        raise SkelfewError(
            f"{where}: joints must be 2 to {_MOST_JOINTS} different names, got {shown(joints)}"
        )
    index = {name: i for i, name in enumerate(joints)}

    def look_up(name: object, key: str) -> int:
        if not isinstance(name, str) or name not in index:
            raise SkelfewError(f"{where}: {key} names {shown(name)}, which is not among the joints")
        return index[name]

    def pairs(key: str) -> list[tuple[int, int]]:
        found = []
        listed = content.get(key, [])
        if not isinstance(listed, list | tuple) or len(listed) > 2 * _MOST_JOINTS:
            raise SkelfewError(f"{where}: {key} must be pairs of two joints, got {shown(listed)}")
        for pair in listed:
            if not isinstance(pair, list | tuple) or len(pair) != 2 or pair[0] == pair[1]:
                raise SkelfewError(f"{where}: {key} must be pairs of two joints, got {shown(pair)}")
            found.append((look_up(pair[0], key), look_up(pair[1], key)))
        return found

    centre = look_up(content["centre"], "centre")
    mirror = pairs("left_right")
    paired = [joint for pair in mirror for joint in pair]
    if twice := duplicates(paired):
        raise SkelfewError(f"{where}: left_right names {shown(joints[twice[0]])} more than once")
    return Layout(
        name=str(content["name"]),
        joints=tuple(joints),
        bones=_hang(joints, pairs("bones"), centre, where),
        centre=centre,
        root=look_up(content.get("root", content["centre"]), "root"),
        mirror=tuple(mirror),
    )


def _names(values: object, key: str, where: str) -> list[str]:
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) and v for v in values):
        raise SkelfewError(f"{where}: {key} must be a list of names, got {shown(values)}")
    return list(values)


def _hang(
    joints: Sequence[str], links: Sequence[tuple[int, int]], centre: int, where: str
) -> tuple[tuple[int, int], ...]:
    """Return the links as (child, parent), directed towards the centre, ordered by child."""
    neighbours: dict[int, list[int]] = {joint: [] for joint in range(len(joints))}
    for first, second in links:
        neighbours[first].append(second)
        neighbours[second].append(first)
    parent = {centre: centre}
    queue = [centre]
    for joint in queue:
        for child in neighbours[joint]:
            if child not in parent:
                parent[child] = joint
                queue.append(child)
    if lost := [name for joint, name in enumerate(joints) if joint not in parent]:
        raise SkelfewError(
            f"{where}: no path of bones leads from {shown(joints[centre])} to "
            f"{brief(', '.join(lost))}; the bones must connect all joints"
        )
    if len(links) != len(joints) - 1:
        raise SkelfewError(
            f"{where}: {len(links)} bones for {len(joints)} joints; a tree has exactly "
            f"{len(joints) - 1}, so remove the bones that close a ring or are given twice"
        )
    return tuple((joint, parent[joint]) for joint in range(len(joints)) if joint != centre)


def _layout(name: str, tree: str, root: str) -> Layout:
    """Build a layout from ``joint<parent`` words; the centre is the word without a parent."""
    words = [word.partition("<") for word in tree.split()]
    joints = [joint for joint, _, _ in words]
    lefts = [joint for joint in joints if joint.startswith("left_")]
    content = {
        "name": name,
        "joints": joints,
        "bones": [[joint, parent] for joint, _, parent in words if parent],
        "centre": next(joint for joint, _, parent in words if not parent),
        "root": root,
        "left_right": [[left, left.replace("left_", "right_", 1)] for left in lefts],
    }
    return layout_from_dict(content, name)


LAYOUTS: dict[str, Layout] = {name: _layout(name, *tree) for name, tree in TREES.items()}
