"""Training stages: one module each. To add one, write its module and add a line to STAGES."""

# Import strings, so that listing the stages does not load torch.
STAGES: dict[str, str] = {
    "transfer": "skelfew.pretrain.transfer:Transfer",
    "direct": "skelfew.pretrain.direct:Direct",
    "mixed": "skelfew.pretrain.mixed:Mixed",
    "traditional": "skelfew.pretrain.traditional:Traditional",
    "episodic": "skelfew.pretrain.episodic:Episodic",
}
