"""Training stages: one module each. To add one, write its module and add a line to STAGES."""

from skelfew.registry import Registry

STAGES = Registry(
    "stage",
    "skelfew.stages",
    {
        "transfer": "skelfew.training.stages.transfer:Transfer",
        "direct": "skelfew.training.stages.direct:Direct",
        "infonce": "skelfew.training.stages.infonce:InfoNCE",
        "mixed": "skelfew.training.stages.mixed:Mixed",
        "skeleton_byol": "skelfew.training.stages.skeleton_byol:SkeletonBYOL",
        "aimclr": "skelfew.training.stages.aimclr:AimCLR",
        "metric": "skelfew.training.stages.metric:Metric",
        "traditional": "skelfew.training.stages.traditional:Traditional",
        "classify": "skelfew.training.stages.classify:Classify",
        "episodic": "skelfew.training.stages.episodic:Episodic",
    },
)
