"""Rules between config keys of additions to the image tower."""

from modules.additions import SHIFTING_PATCHES
from utils.schema_rules import Rule, TrainRule

RULES = (
    Rule(
        ("network.joint_st", "network.sim_header"),
        lambda c: c.network.joint_st and c.network.sim_header != "None",
        "joint_st gives one embedding per video, so there are no frames for a head; set sim_header to None",
    ),
    Rule(
        ("network.joint_st", "network.tm"),
        lambda c: c.network.joint_st and bool(c.network.tm),
        "joint_st has no separate frames to shift; set tm to False",
    ),
    Rule(
        ("network.patch_dropout", "network.tm"),
        lambda c: c.network.patch_dropout > 0 and c.network.tm in SHIFTING_PATCHES,
        lambda c: (
            f"{c.network.tm} {SHIFTING_PATCHES[c.network.tm]}, and patch_dropout drops different patches in each; "
            "remove one"
        ),
    ),
    TrainRule(
        ("network.patch_dropout", "network.fix_video"),
        lambda c: not c.solver.evaluate and c.network.patch_dropout > 0 and c.network.fix_video,
        "patch_dropout has no effect on a frozen image tower; set it to 0",
        is_advice=True,
    ),
)
