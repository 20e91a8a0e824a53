"""How videos are compared with classes, by name in a config (`network.scorer`); CONTRIBUTING.md says how to add one."""

SCORERS = {
    "cosine": "modules.scorers.cosine.Cosine",
    "vcs": "modules.scorers.vcs.VideoConceptSpotting",
    "modulated": "modules.scorers.modulated.Modulated",
    "xclip": "modules.scorers.xclip.VideoPrompts",
    "linear": "modules.scorers.linear.LinearScorer",
}
