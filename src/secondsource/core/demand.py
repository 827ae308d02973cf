"""What is asked of the fleet: request-size classes and the service levels they are served under."""

from enum import StrEnum

import msgspec


class Work(StrEnum):
    """What one unit of demand is."""

    TEXT = "text"  # requests, with input and output tokens
    IMAGE = "image"  # images, with denoising steps


class SizeClass(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of about one size; planned for as if all had the means given here.

    `input_tokens` and `output_tokens` are means per request; for an image class both are 0 and
    `image_steps` is the number of denoising steps of one 1024 x 1024 image.
    """

    name: str
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    image_steps: int = 0

    @property
    def work(self) -> Work:
        """Whether the class is of text or of images."""
        return Work.IMAGE if self.image_steps else Work.TEXT


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """A service level: limits in seconds; None is no limit.

    `ttft_s` is on the time to the first token (for images, to the whole image), `tpot_s` on the
    per-request mean time per output token without the first.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
