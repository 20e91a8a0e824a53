"""Adapters for parameter-efficient tuning of the image tower, by config name; docs/tuning.md compares them."""

ADAPTERS = {
    "st_adapter": "modules.adapters.st_adapter.StAdapter",
    "aim": "modules.adapters.aim.Aim",
    "deep_prompts": "modules.adapters.deep_prompts.DeepPrompts",
    "lora": "modules.adapters.lora.Lora",
    "bitfit": "modules.adapters.bitfit.BitFit",
}
"""Choices of `network.adapter`."""

TUNING_ONLY = {"bitfit": "biases and norms"}
"""Adapters that add no parameters, and which ones of the image tower they tune; `modules.rules`."""
