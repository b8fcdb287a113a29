"""oche: differentiable architecture search that people can rely on."""

__version__ = "0.1.0"
