"""Write golden/xclip_tiny.json: what transformers' XCLIPModel computes for the tiny case.

python tests/extract/make_xclip_golden.py
"""

import json
from pathlib import Path

import transformers
from skelfew_extract.teachers.xclip_names import to_hugging_face, to_native
from xclip_case import TINY, TOKENS, clips, parameters, reference, reference_outputs

GOLDEN = Path(__file__).parent / "golden" / "xclip_tiny.json"


def main() -> None:
    model = reference(TINY, joint_heads=2).double()
    shapes = {name: tuple(t.shape) for name, t in to_native(model.state_dict()).items()}
    model.load_state_dict(to_hugging_face(parameters(shapes)))
    outputs = reference_outputs(model, clips(TINY, 2), TOKENS)
    document = {
        "source": f"transformers {transformers.__version__}, XCLIPModel, float64",
        "parameters": len(shapes),
        **{name: [round(x, 12) for x in v.flatten().tolist()] for name, v in outputs.items()},
    }
    GOLDEN.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
