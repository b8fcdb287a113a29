"""Evaluation of a finished training, on its own or on other data: an assessment on images, perplexity on text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from oche.analysis.classification import Assessment
from oche.core.atomic_files import read_json, to_json, write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.metrics import perplexity
from oche.data import is_text
from oche.data.text.corpus import UNKNOWN, Corpus, encode_file, reencode
from oche.data.text.files import is_single_file
from oche.deploy.classifier import check_finished, load
from oche.devices.engine import Engine
from oche.networks.language_model import LanguageModel
from oche.report.classification_page import write_assessment_page
from oche.runs.checkpoint import load_weights
from oche.runs.claim import is_run
from oche.runs.plan import load_data
from oche.runs.resolve import locate
from oche.runs.run import Run
from oche.training.assess import assess
from oche.training.language_recipes import LanguageRecipe
from oche.training.language_trainer import cross_entropy

Numbers = dict[str, float | int]


def evaluate_run(run: Run, data: str | None, data_dir: Path | None, device: str, log: Log) -> Numbers | Assessment:
    """Evaluate the network of ``run``: return the numbers of a language model, or the assessment of a classifier.

    ``data``: other data than the run's own. Raises `OcheError` where data and network do not fit.
    """
    run = run.trained()
    config = run.config
    place = config.data if data is None else locate(data)
    other = place != config.data
    if other:
        config = replace(config, data=place, data_dir=None, limit=None, size=None)
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    if run.kind == "train" and is_text(place) != (config.train.domain == "text"):
        found = "images" if config.train.domain == "text" else "text"
        raise OcheError(
            f"{run.path} was trained on {config.train.domain}, and {place} is {found}; give --data of its kind"
        )
    if run.kind == "train" and isinstance(config.train, LanguageRecipe):
        return _perplexity(run, config, other, device, log)
    return _assessment(run, config, other, device, log)


def result_numbers(found: Numbers | Assessment) -> Numbers:
    """Return the numbers that `oche.evaluate` returns, by their names in records (test_acc, ...)."""
    if not isinstance(found, Assessment):
        return found
    names = {"accuracy": "test_acc", "nll": "test_loss", "ece": "test_ece", "images": "test_images"}
    return {names[name]: value for name, value in found.numbers.items()}


def write_evaluation(found: Numbers | Assessment, run: Run, out: Path) -> Path:
    """Write assessment.json, figures and a page into the directory ``out``; return the path of the page.

    Raises `OcheError` for a language model, which has no assessment, and where ``out`` is a run, whose files must not change.
    """
    if not isinstance(found, Assessment):
        raise OcheError(f"{run.path} trained a language model, of which there are no pictures; leave --out away")
    if is_run(out):
        raise OcheError(f"{out} is a run, whose own records stay as they are; give another folder as --out")
    write_bytes(out / "assessment.json", (to_json(found.to_dict()) + "\n").encode())
    return write_assessment_page(out, found, f"{run.path.name} on {Path(found.data).name}")


# --- text ---------------------------------------------------------------------------------------------------------------


def language_model(run: Run, engine: Engine) -> tuple[LanguageModel, list[str]]:
    """Load the network of a finished training of a language model, in evaluation mode, and its vocabulary.

    Raises `OcheError` where files are missing or do not fit.
    """
    check_finished(run)
    vocabulary = read_json(run.path / "vocabulary.json").get("vocabulary")
    if not vocabulary:
        raise OcheError(f"{run.path} has no vocabulary.json; restore it, or train again")
    net = run.config.train.network(run.config.genotype, len(vocabulary))
    file = run.path / "weights.safetensors"
    weights = load_weights(file)
    _check_shapes(net, weights, file)
    net.load_state_dict(weights)
    return engine.place(net).eval(), vocabulary


def _check_shapes(net: LanguageModel, weights: Mapping[str, Tensor], file: Path) -> None:
    own, found = ({name: tuple(t.shape) for name, t in w.items()} for w in (net.state_dict(), weights))
    if own != found:
        name = next(name for name in sorted(own.keys() | found.keys()) if own.get(name) != found.get(name))
        raise OcheError(
            f"{file} does not fit the network of its configuration and vocabulary: {name} is {found.get(name, 'absent')} in the "
            f"file, {own.get(name, 'absent')} in the network; restore what belongs to the run, or train again"
        )


def _perplexity(run: Run, config: Any, other: bool, device: str, log: Log) -> Numbers:
    engine = Engine(device, config.threads)
    net, vocabulary = language_model(run, engine)
    if other and is_single_file(config.data):
        parts = {"test": encode_file(config.data, vocabulary, config.tokens)}
    else:
        corpus: Corpus = load_data(config, log)
        if corpus.vocabulary != vocabulary:
            corpus = reencode(corpus, vocabulary)
        parts = {"val": corpus.valid} | ({} if corpus.test is None else {"test": corpus.test})
    batches, found = {"val": config.train.valid_batch, "test": config.train.test_batch}, Numbers()
    unknown = vocabulary.index(UNKNOWN)
    for part, tokens in parts.items():
        with engine.using_threads():
            loss = cross_entropy(net, tokens.to(engine.device), batches[part], config.train.bptt)
        share = (tokens == unknown).double().mean().item()
        found |= {
            f"{part}_loss": loss,
            f"{part}_ppl": perplexity(loss),
            f"{part}_tokens": len(tokens),
            f"{part}_unknown": share,
        }
    return found


# --- images -------------------------------------------------------------------------------------------------------------


def _assessment(run: Run, config: Any, other: bool, device: str, log: Log) -> Assessment:
    net = load(run, device)  # raises unless the run is a finished training
    if other:
        config = replace(config, size=min(net.image) if net.image[0] == net.image[1] else None)
    data = load_data(config, log)
    if data.classes != net.classes:
        raise OcheError(
            f"{data.name} has the classes {_some(data.classes)}, and {run.path} was trained on {_some(net.classes)}; "
            "give data with the same classes"
        )
    if data.channels != net.about.channels:
        raise OcheError(f"{data.name} has {data.channels} channels, and {run.path} was trained on {net.about.channels}")
    if data.test is None:
        raise OcheError(f"{data.name} has no test images; train with --holdout above 0, or give --data that has some")
    engine = Engine(device, config.threads)
    data = replace(data, mean=net.mean, std=net.std)
    return assess(net, data.test.to(engine.device), data, engine, "test")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")
