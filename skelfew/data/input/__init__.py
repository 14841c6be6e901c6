"""Skeletons to network input: preprocessing, the in-memory bank, views."""

from typing import Literal

Stream = Literal["joint", "bone", "joint_motion", "bone_motion"]
MissingBody = Literal["zeros", "duplicate", "mask"]
InputKind = Literal["ntu", "ucla"]
Root = Literal["first", "each", "level"]
Facing = Literal["recorded", "camera"]
Size = Literal["recorded", "body"]
