"""transformers' XCLIPModel with the weights of one of our teachers, for benchmarks."""

from typing import Any

from skelfew_extract.teachers.xclip_names import to_hugging_face
from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher


def their_xclip(exact: XCLIPTeacher) -> Any:
    """Return an XCLIPModel, float32, that computes what ``exact`` computes."""
    from transformers import XCLIPConfig, XCLIPModel

    v = exact.variant
    heads = v.dim // 64
    config = XCLIPConfig(
        text_config={
            "vocab_size": v.vocabulary,
            "hidden_size": v.text_width,
            "intermediate_size": 4 * v.text_width,
            "num_hidden_layers": v.text_layers,
            "num_attention_heads": v.text_width // 64,
        },
        vision_config={
            "hidden_size": v.width,
            "intermediate_size": 4 * v.width,
            "num_hidden_layers": v.layers,
            "num_attention_heads": v.width // 64,
            "mit_hidden_size": v.dim,
            "mit_intermediate_size": 4 * v.dim,
            "mit_num_attention_heads": heads,
            "image_size": v.image_size,
            "patch_size": v.patch,
            "num_frames": v.frames,
        },
        projection_dim=v.dim,
        prompt_num_attention_heads=heads,
    )
    theirs = XCLIPModel(config).eval()
    theirs.load_state_dict(to_hugging_face(exact.model.state_dict()))
    return theirs
