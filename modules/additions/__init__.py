"""Additions to the image tower by config name; CONTRIBUTING.md shows how to add one.

Applied in this order.
"""

TM = {
    "tsm": "modules.additions.tsm.TemporalShift",
    "tokenshift": "modules.additions.tokenshift.ClassTokenShift",
    "tokent1d": "modules.additions.tokent1d.ClassTokenConvolution",
    "message": "modules.additions.message.CrossFrameMessages",
}
"""Choices of `network.tm`."""

OWN_KEYS = {
    "drop_out": "modules.additions.drop_out.DropOut",
    "patch_dropout": "modules.additions.patch_dropout.PatchDropOut",
    "emb_dropout": "modules.additions.emb_dropout.EmbeddingDropOut",
    "joint_st": "modules.additions.joint_st.JointSpaceTime",
}
"""Additions with their own key in `network`."""

ADDITIONS = TM | OWN_KEYS

SHIFTING_PATCHES = {"tsm": "shifts a patch's channels between frames"}
"""Additions that need the same patches in all frames, and what they do with them; `modules.additions.rules`."""
