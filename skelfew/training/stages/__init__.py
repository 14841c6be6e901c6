"""Training stages: one module each. To add one, write its module and add a line to STAGES."""

# Import strings, so that listing the stages does not load torch.
STAGES: dict[str, str] = {
    "transfer": "skelfew.training.stages.transfer:Transfer",
    "direct": "skelfew.training.stages.direct:Direct",
    "infonce": "skelfew.training.stages.infonce:InfoNCE",
    "mixed": "skelfew.training.stages.mixed:Mixed",
    "skeleton_byol": "skelfew.training.stages.skeleton_byol:SkeletonBYOL",
    "aimclr": "skelfew.training.stages.aimclr:AimCLR",
    "metric": "skelfew.training.stages.metric:Metric",
    "traditional": "skelfew.training.stages.traditional:Traditional",
    "episodic": "skelfew.training.stages.episodic:Episodic",
}

# Stages that could not be checked against their sources, and what of them; shown by every run.
UNVERIFIED: dict[str, str] = {
    "skeleton_byol": "a reconstruction from an abstract: transformations, widths, decay and "
    "optimiser are not Moliner et al.'s",
}
