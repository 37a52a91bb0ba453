"""The six scenes, one file each; each plays on the stage and gives a `Finding`."""

from collections.abc import Callable

from agentguard.cli.demo.findings import Finding
from agentguard.cli.demo.scenes import bad_data, blindness, bottleneck, governance, model_drift, security
from agentguard.cli.demo.stage import Stage

Scene = Callable[[Stage], Finding]

SCENES: tuple[tuple[str, Scene], ...] = (
    ("model drift", model_drift.play),
    ("missing governance", governance.play),
    ("blindness", blindness.play),
    ("bad data", bad_data.play),
    ("scalability bottleneck", bottleneck.play),
    ("security gap", security.play),
)
"""What is played, in this order, with what is said meanwhile."""

__all__ = ["SCENES", "Scene"]
