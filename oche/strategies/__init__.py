"""Black-box search: strategies that ask for architectures, and evaluators that score them."""

from oche.strategies.bananas import Bananas
from oche.strategies.base import Ask, Done, Evaluator, Proposals, Report, Strategy
from oche.strategies.catalog import STRATEGIES, find_strategy, list_strategy
from oche.strategies.evaluators import TableAccuracy, Training, TrainingFree
from oche.strategies.evolution import AgeingEvolution
from oche.strategies.halving import SuccessiveHalving
from oche.strategies.local_search import LocalSearch
from oche.strategies.loop import Found, drive
from oche.strategies.moves import Moves
from oche.strategies.predictor import PredictorGuided
from oche.strategies.progressive import Progressive
from oche.strategies.random_search import RandomSearch
from oche.strategies.reinforce import Reinforce
from oche.strategies.run import StrategyRun, resume, search
from oche.strategies.shared import ByStrategy, on_shared_weights
from oche.strategies.space_moves import moves_of
from oche.strategies.training_free import SCORES

__all__ = [
    "SCORES",
    "STRATEGIES",
    "AgeingEvolution",
    "Ask",
    "Bananas",
    "ByStrategy",
    "Done",
    "Evaluator",
    "Found",
    "LocalSearch",
    "Moves",
    "PredictorGuided",
    "Progressive",
    "Proposals",
    "RandomSearch",
    "Reinforce",
    "Report",
    "Strategy",
    "StrategyRun",
    "SuccessiveHalving",
    "TableAccuracy",
    "Training",
    "TrainingFree",
    "drive",
    "find_strategy",
    "list_strategy",
    "moves_of",
    "on_shared_weights",
    "resume",
    "search",
]
