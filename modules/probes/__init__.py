"""Classifiers trained on the tokens of a frozen image tower, by name (`test_frozen.py --probes`)."""

PROBES = {
    "linear": "modules.probes.linear.LinearProbe",
    "attentive": "modules.probes.attentive.AttentiveProbe",
}
