"""Training networks from scratch: recipes, batches, losses, and the loops for images and for language models."""

from oche.training.image_recipes import RECIPES, Recipe, darts, imagenet_mobile, modern, nb201, seed, small
from oche.training.image_trainer import Training, train

__all__ = ["RECIPES", "Recipe", "Training", "darts", "imagenet_mobile", "modern", "nb201", "seed", "small", "train"]
