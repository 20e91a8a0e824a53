"""Scorers, which compare videos with classes, by config name (`network.scorer`); CONTRIBUTING.md shows how to add
one."""

SCORERS = {
    "cosine": "modules.scorers.cosine.Cosine",
    "vcs": "modules.scorers.vcs.VideoConceptSpotting",
    "modulated": "modules.scorers.modulated.Modulated",
    "xclip": "modules.scorers.xclip.VideoPrompts",
    "linear": "modules.scorers.linear.LinearScorer",
}
