"""Training stages: one module each. To add one, write its module and add a line to STAGES."""

# Import strings, so that listing the stages does not load torch.
STAGES: dict[str, str] = {
    "transfer": "skelfew.pretrain.transfer:Transfer",
    "direct": "skelfew.pretrain.direct:Direct",
    "infonce": "skelfew.pretrain.infonce:InfoNCE",
    "mixed": "skelfew.pretrain.mixed:Mixed",
    "skeleton_byol": "skelfew.pretrain.skeleton_byol:SkeletonBYOL",
    "aimclr": "skelfew.pretrain.aimclr:AimCLR",
    "metric": "skelfew.pretrain.metric:Metric",
    "traditional": "skelfew.pretrain.traditional:Traditional",
    "episodic": "skelfew.pretrain.episodic:Episodic",
}

# Stages that could not be checked against their sources, and what of them; shown by every run.
UNVERIFIED: dict[str, str] = {
    "skeleton_byol": "a reconstruction from an abstract: transformations, widths, decay and "
    "optimiser are not Moliner et al.'s",
}
