"""Black-box search algorithms: each asks for architectures and is told their scores. `oche.strategies` runs them."""
