"""One call from images to a trained network: plan, search or take the best known cell, train, assess, compare, export."""
