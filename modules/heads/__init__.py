"""Temporal heads by config name (`network.sim_header`); CONTRIBUTING.md shows how to add one."""

HEADS = {
    "Transf": "modules.heads.transf.TemporalTransformer",
    "MoTE": "modules.heads.mote.TemporalMixture",
    "MIT": "modules.heads.mit.MultiframeIntegration",
    "None": "modules.heads.frame_mean.FrameMean",
}
