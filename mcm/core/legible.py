"""Words of somebody else, such as an upstream, as text and nothing but text."""

__all__ = ["legible"]


def legible(text: str, instead: str = "?") -> str:
    """*text* with *instead* of each character that would command a terminal, or end a line."""
    return "".join(one if one.isprintable() else instead for one in text)
