"""How often something happens: in steps or in minutes."""


def parse_interval(text: int | str | None) -> tuple[int | None, float | None]:
    """(steps, seconds) between two times: `500` is steps, `10min` minutes; the other one is None, both for None.

    Raises:
        ValueError: neither, or not positive.
    """
    if text is None:
        return None, None
    if isinstance(text, str) and not text.endswith("min"):
        raise ValueError(text)
    value = float(text.removesuffix("min")) if isinstance(text, str) else text
    if not value > 0:
        raise ValueError(text)
    return (None, 60 * value) if isinstance(text, str) else (value, None)
