"""The built-in layouts: joints in the order of the arrays, each with the joint that it hangs from.

A tree is ``joint<parent`` words; the word without a parent is the centre of the graph.
"""

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky")


def _chain(name: str, count: int, parent: str, backwards: bool = False) -> str:
    """Return name1<parent name2<name1 ..., or the same words the other way round."""
    words = [f"{name}{i}<{f'{name}{i - 1}' if i > 1 else parent}" for i in range(1, count + 1)]
    return " ".join(reversed(words) if backwards else words)


def _hand(side: str) -> str:
    """Return the 21 joints of a hand as OpenPose and COCO-WholeBody number them, root to tips."""
    fingers = [_chain(f"{side}_{finger}", 4, f"{side}_hand_root") for finger in _FINGERS]
    return " ".join([f"{side}_hand_root<{side}_wrist", *fingers])


_COCO = """
    nose left_eye<nose right_eye<nose left_ear<left_eye right_ear<right_eye
    left_shoulder<nose right_shoulder<nose left_elbow<left_shoulder
    right_elbow<right_shoulder left_wrist<left_elbow right_wrist<right_elbow
    left_hip<left_shoulder right_hip<right_shoulder left_knee<left_hip right_knee<right_hip
    left_ankle<left_knee right_ankle<right_knee
"""
_OPENPOSE_25 = """
    nose<neck neck
    right_shoulder<neck right_elbow<right_shoulder right_wrist<right_elbow
    left_shoulder<neck left_elbow<left_shoulder left_wrist<left_elbow
    mid_hip<neck right_hip<mid_hip right_knee<right_hip right_ankle<right_knee
    left_hip<mid_hip left_knee<left_hip left_ankle<left_knee
    right_eye<nose left_eye<nose right_ear<right_eye left_ear<left_eye
    left_big_toe<left_ankle left_small_toe<left_big_toe left_heel<left_ankle
    right_big_toe<right_ankle right_small_toe<right_big_toe right_heel<right_ankle
"""
# The 68 points of a face (iBUG 300-W), as COCO-WholeBody takes them; right and left are the
# person's. Numbers of a side count from the middle of the face outwards.
_FACE = f"""
    {_chain("right_jaw", 8, "chin", backwards=True)} chin<lower_lip {_chain("left_jaw", 8, "chin")}
    {_chain("right_brow", 5, "nose_bridge4", backwards=True)}
    {_chain("left_brow", 5, "nose_bridge4")}
    {_chain("nose_bridge", 4, "nose", backwards=True)}
    {_chain("right_nostril", 2, "nose_base", backwards=True)} nose_base<nose
    {_chain("left_nostril", 2, "nose_base")}
    right_eye_outer<right_eye right_eye_upper2<right_eye right_eye_upper1<right_eye
    right_eye_inner<right_eye right_eye_lower1<right_eye right_eye_lower2<right_eye
    left_eye_inner<left_eye left_eye_upper1<left_eye left_eye_upper2<left_eye
    left_eye_outer<left_eye left_eye_lower2<left_eye left_eye_lower1<left_eye
    right_mouth<right_upper_lip2 {_chain("right_upper_lip", 2, "upper_lip", backwards=True)}
    upper_lip<nose_base {_chain("left_upper_lip", 2, "upper_lip")} left_mouth<left_upper_lip2
    {_chain("left_lower_lip", 2, "lower_lip", backwards=True)} lower_lip<upper_lip
    {_chain("right_lower_lip", 2, "lower_lip")}
    right_mouth_inner<right_mouth right_upper_lip_inner<upper_lip_inner upper_lip_inner<upper_lip
    left_upper_lip_inner<upper_lip_inner left_mouth_inner<left_mouth
    left_lower_lip_inner<lower_lip_inner lower_lip_inner<lower_lip
    right_lower_lip_inner<lower_lip_inner
"""

TREES: dict[str, tuple[str, str]] = {  # name: (tree, root)
    # NTU RGB+D, PKU-MMD.
    "kinect-v2": (
        """
        spine_base<spine_mid spine_mid<spine_shoulder neck<spine_shoulder head<neck
        left_shoulder<spine_shoulder left_elbow<left_shoulder left_wrist<left_elbow
        left_hand<left_wrist
        right_shoulder<spine_shoulder right_elbow<right_shoulder right_wrist<right_elbow
        right_hand<right_wrist
        left_hip<spine_base left_knee<left_hip left_ankle<left_knee left_foot<left_ankle
        right_hip<spine_base right_knee<right_hip right_ankle<right_knee right_foot<right_ankle
        spine_shoulder left_hand_tip<left_thumb left_thumb<left_hand
        right_hand_tip<right_thumb right_thumb<right_hand
        """,
        "spine_mid",
    ),
    # NW-UCLA, UTD-MHAD (its files have another order; the reader sorts), MSR Action Pairs.
    "kinect-v1": (
        """
        hip_centre<spine spine<shoulder_centre shoulder_centre head<shoulder_centre
        left_shoulder<shoulder_centre left_elbow<left_shoulder left_wrist<left_elbow
        left_hand<left_wrist
        right_shoulder<shoulder_centre right_elbow<right_shoulder right_wrist<right_elbow
        right_hand<right_wrist
        left_hip<hip_centre left_knee<left_hip left_ankle<left_knee left_foot<left_ankle
        right_hip<hip_centre right_knee<right_hip right_ankle<right_knee right_foot<right_ankle
        """,
        "spine",
    ),
    # COCO keypoints; bones as PYSKL draws them. There is no hip centre to put at the origin.
    "coco": (
        _COCO,
        "nose",
    ),
    # COCO-WholeBody: body, feet, face and hands.
    "coco-wholebody-133": (
        f"""
        {_COCO}
        left_big_toe<left_ankle left_small_toe<left_ankle left_heel<left_ankle
        right_big_toe<right_ankle right_small_toe<right_ankle right_heel<right_ankle
        {_FACE} {_hand("left")} {_hand("right")}
        """,
        "nose",
    ),
    # Halpe-FullBody without face and hands, as AlphaPose writes it; head is its top.
    "halpe-26": (
        """
        nose<neck left_eye<nose right_eye<nose left_ear<left_eye right_ear<right_eye
        left_shoulder<neck right_shoulder<neck left_elbow<left_shoulder
        right_elbow<right_shoulder left_wrist<left_elbow right_wrist<right_elbow
        left_hip<mid_hip right_hip<mid_hip left_knee<left_hip right_knee<right_hip
        left_ankle<left_knee right_ankle<right_knee head<neck neck mid_hip<neck
        left_big_toe<left_heel right_big_toe<right_heel
        left_small_toe<left_heel right_small_toe<right_heel
        left_heel<left_ankle right_heel<right_ankle
        """,
        "mid_hip",
    ),
    # OpenPose's COCO model; bones as ST-GCN draws them.
    "openpose-18": (
        """
        nose<neck neck
        right_shoulder<neck right_elbow<right_shoulder right_wrist<right_elbow
        left_shoulder<neck left_elbow<left_shoulder left_wrist<left_elbow
        right_hip<right_shoulder right_knee<right_hip right_ankle<right_knee
        left_hip<left_shoulder left_knee<left_hip left_ankle<left_knee
        right_eye<nose left_eye<nose right_ear<right_eye left_ear<left_eye
        """,
        "neck",
    ),
    # OpenPose's BODY_25 model.
    "openpose-25": (
        _OPENPOSE_25,
        "mid_hip",
    ),
    # BODY_25, then the left and the right hand.
    "openpose-25-hands": (
        f"""{_OPENPOSE_25} {_hand("left")} {_hand("right")}""",
        "mid_hip",
    ),
    # MediaPipe's pose landmarks (BlazePose). Stored 3D joints are its world landmarks in metres
    # turned half around the camera's axis, (-x, -y, z): y upwards as Kinect has it.
    "mediapipe-33": (
        """
        nose left_eye_inner<nose left_eye<left_eye_inner left_eye_outer<left_eye
        right_eye_inner<nose right_eye<right_eye_inner right_eye_outer<right_eye
        left_ear<left_eye_outer right_ear<right_eye_outer left_mouth<nose right_mouth<nose
        left_shoulder<nose right_shoulder<nose left_elbow<left_shoulder
        right_elbow<right_shoulder left_wrist<left_elbow right_wrist<right_elbow
        left_pinky<left_wrist right_pinky<right_wrist left_index<left_wrist
        right_index<right_wrist left_thumb<left_wrist right_thumb<right_wrist
        left_hip<left_shoulder right_hip<right_shoulder left_knee<left_hip right_knee<right_hip
        left_ankle<left_knee right_ankle<right_knee left_heel<left_ankle right_heel<right_ankle
        left_foot_index<left_heel right_foot_index<right_heel
        """,
        "nose",
    ),
    # Human3.6M's usual 17 of 32 joints (VideoPose3D's order).
    "h36m": (
        """
        pelvis<spine right_hip<pelvis right_knee<right_hip right_ankle<right_knee
        left_hip<pelvis left_knee<left_hip left_ankle<left_knee
        spine<thorax thorax neck<thorax head<neck
        left_shoulder<thorax left_elbow<left_shoulder left_wrist<left_elbow
        right_shoulder<thorax right_elbow<right_shoulder right_wrist<right_elbow
        """,
        "pelvis",
    ),
    # SMPL's kinematic tree, hung from the upper spine.
    "smpl": (
        """
        pelvis<spine1 left_hip<pelvis right_hip<pelvis spine1<spine2
        left_knee<left_hip right_knee<right_hip spine2<spine3
        left_ankle<left_knee right_ankle<right_knee spine3
        left_foot<left_ankle right_foot<right_ankle
        neck<spine3 left_collar<spine3 right_collar<spine3 head<neck
        left_shoulder<left_collar right_shoulder<right_collar
        left_elbow<left_shoulder right_elbow<right_shoulder
        left_wrist<left_elbow right_wrist<right_elbow
        left_hand<left_wrist right_hand<right_wrist
        """,
        "pelvis",
    ),
    # The OpenNI/NiTE tracker (SBU Kinect Interaction's order).
    "joints-15": (
        """
        head<neck neck torso<neck
        left_shoulder<neck left_elbow<left_shoulder left_hand<left_elbow
        right_shoulder<neck right_elbow<right_shoulder right_hand<right_elbow
        left_hip<torso left_knee<left_hip left_foot<left_knee
        right_hip<torso right_knee<right_hip right_foot<right_knee
        """,
        "torso",
    ),
}
