"""Temporal heads by their name in a config (`network.sim_header`); CONTRIBUTING.md says how to add one."""

HEADS = {
    "Transf": "modules.heads.transf.TemporalTransformer",
    "MoTE": "modules.heads.mote.TemporalMixture",
    "MIT": "modules.heads.mit.MultiframeIntegration",
    "None": "modules.heads.frame_mean.FrameMean",
}
