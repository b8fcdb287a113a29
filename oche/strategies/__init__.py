"""Black-box search: strategies that ask for architectures, and evaluators that score them."""

from oche.blackbox.bananas import Bananas
from oche.blackbox.base import Ask, Done, Evaluator, Proposals, Report, Strategy
from oche.blackbox.controller import Controller
from oche.blackbox.evolution import AgeingEvolution
from oche.blackbox.halving import SuccessiveHalving
from oche.blackbox.hyperband import Asha, Hyperband
from oche.blackbox.local_search import LocalSearch
from oche.blackbox.moves import Moves
from oche.blackbox.predictor import PredictorGuided
from oche.blackbox.progressive import Progressive
from oche.blackbox.random_search import RandomSearch
from oche.blackbox.reinforce import Reinforce
from oche.blackbox.space_moves import moves_of
from oche.strategies.catalog import STRATEGIES, find_strategy, list_strategy
from oche.strategies.evaluators import TableAccuracy, Training, TrainingFree
from oche.strategies.loop import Found, drive
from oche.strategies.pruning import PruningConfig, prune_by_scores
from oche.strategies.run import StrategyRun, resume, search
from oche.strategies.shared import ByStrategy, on_shared_weights
from oche.strategies.training_free import SCORES

__all__ = [
    "SCORES",
    "STRATEGIES",
    "AgeingEvolution",
    "Asha",
    "Ask",
    "Bananas",
    "ByStrategy",
    "Controller",
    "Done",
    "Evaluator",
    "Found",
    "Hyperband",
    "LocalSearch",
    "Moves",
    "PredictorGuided",
    "Progressive",
    "Proposals",
    "PruningConfig",
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
    "prune_by_scores",
    "resume",
    "search",
]
