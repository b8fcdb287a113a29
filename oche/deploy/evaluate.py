"""Evaluation of a finished training, on its own or on other data: an assessment on images, perplexity on text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from oche.analysis.classification import Assessment
from oche.core.atomic_files import to_json, write_bytes
from oche.core.console import Log
from oche.core.errors import OcheError
from oche.core.finite import first_not_finite
from oche.core.metrics import perplexity
from oche.data import Augment, Dataset, is_text
from oche.data.loading import load_measured
from oche.data.manifest import FIRST, SECOND
from oche.data.readers.pixels import Layout
from oche.data.text.corpus import UNKNOWN, Corpus, encode_file, reencode
from oche.data.text.files import find_text, is_single_file
from oche.deploy.classifier import Classifier, check_finished, load
from oche.devices.engine import Engine
from oche.networks.language_model import LanguageModel
from oche.report.classification_page import write_assessment_page
from oche.report.run_page import refresh_reports
from oche.runs.chance import majority_shares
from oche.runs.checkpoint import load_weights
from oche.runs.claim import is_run
from oche.runs.documents import read_document
from oche.runs.membership import Earlier
from oche.runs.resolve import locate, with_place
from oche.runs.run import Run
from oche.runs.run_data import is_data_of, load_recorded
from oche.training.assess import assess
from oche.training.language_recipes import LanguageRecipe
from oche.training.language_trainer import cross_entropy

Numbers = dict[str, float | int]


def evaluate_run(
    run: Run,
    data: str | None,
    data_dir: Path | None,
    device: str,
    log: Log,
    damaged: Literal["refuse", "skip"] | None = None,
    layout: Layout | None = None,
) -> Numbers | Assessment:
    """Evaluate the network of ``run``: return the numbers of a language model, or the assessment of a classifier.

    ``data``: other data than the run's own, measured whole; or the run's own at another place, of which the test part is
    measured that the run recorded. ``damaged``: what to do about images that cannot be decoded; None: as the run did.
    ``layout``: the axes of arrays; None: known by the channels of the network.
    Raises `OcheError` where data and network do not fit.
    """
    run = run.trained()
    check_finished(run)
    config = run.config if damaged is None else replace(run.config, damaged=damaged)
    place = config.data if data is None else locate(data)
    if is_text(place) != (config.train.domain == "text"):
        found = "images" if config.train.domain == "text" else "text"
        raise OcheError(
            f"{run.path} was trained on {config.train.domain}, and {place} is {found}; give --data of its kind"
        )
    earlier = Earlier.read(run.path, log)
    other = place != config.data
    config = with_place(config, data, data_dir)
    if other and (other := not is_data_of(run, earlier, place, data_dir, log, damaged)):
        config = replace(config, limit=None, size=None, layout=layout)
    elif place != run.config.data:
        log.say(f"{place} holds the data of {run.path}; its test part is measured")
    if isinstance(config.train, LanguageRecipe):
        return _perplexity(run, config, earlier, other, device, log)
    return _assessment(run, config, earlier, other, device, log)


def result_numbers(found: Numbers | Assessment) -> Numbers:
    """Return the numbers that `oche.evaluate` returns, by their names in records (test_acc, ...)."""
    if not isinstance(found, Assessment):
        return found
    names = {"accuracy": "acc", "balanced_accuracy": "balanced_acc", "nll": "loss"}
    return {f"test_{names.get(name, name)}": value for name, value in found.numbers.items()}


def write_evaluation(found: Numbers | Assessment, run: Run, out: Path) -> Path:
    """Write assessment.json, figures and a page into the directory ``out``; return the path of the page.

    Raises `OcheError` for a language model, which has no assessment, and where ``out`` is a run, whose files must not change.
    """
    if not isinstance(found, Assessment):
        raise OcheError(f"{run.path} trained a language model, of which there are no pictures; leave --out away")
    if is_run(out):
        raise OcheError(f"{out} is a run, whose own records stay as they are; give another folder as --out")
    write_bytes(out / "assessment.json", (to_json(found.to_dict()) + "\n").encode())
    page = write_assessment_page(out, found, f"{run.path.name} on {Path(found.data).name}")
    refresh_reports(out)
    return page


# --- text ---------------------------------------------------------------------------------------------------------------


def language_model(run: Run, engine: Engine) -> tuple[LanguageModel, list[str]]:
    """Load the network of a finished training of a language model, in evaluation mode, and its vocabulary.

    Raises `OcheError` where files are missing or do not fit.
    """
    check_finished(run)
    vocabulary = read_document(run.path / "vocabulary.json").get("vocabulary")
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


def _perplexity(run: Run, config: Any, earlier: Earlier, other: bool, device: str, log: Log) -> Numbers:
    engine = Engine(device, config.threads)
    net, vocabulary = language_model(run, engine)
    if other:
        parts = _parts_to_measure(config, vocabulary, log)
    else:
        corpus: Corpus = load_recorded(config, log, earlier, "evaluate")
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
        if first_not_finite(found) is not None:
            raise OcheError(
                f"the perplexity of the network of {run.path} is not finite on the {part} text of {config.data} (loss "
                f"{loss:.4g} nats a token), so it means nothing; train again, with a smaller learning rate or gradient clipping"
            )
    return found


def _parts_to_measure(config: Any, vocabulary: list[str], log: Log) -> dict[str, Tensor]:
    """Return the validation and test parts of other text, or the whole of it as test if it has neither."""
    if is_single_file(config.data):
        return {"test": encode_file(config.data, vocabulary, config.tokens)}
    sources, _ = find_text(config.data, config.data_dir, not log.quiet)
    parts = {"val": sources.get("valid"), "test": sources.get("test")}
    if not any(parts.values()):
        parts = {"test": sources["train"]}
    return {
        part: encode_file(source, vocabulary, config.tokens) for part, source in parts.items() if source is not None
    }


# --- images -------------------------------------------------------------------------------------------------------------


def _assessment(run: Run, config: Any, earlier: Earlier, other: bool, device: str, log: Log) -> Assessment:
    net = load(run, device)  # raises unless the run is a finished training
    if other:
        data = _whole(run, net, config, earlier, log)
    else:
        data = load_recorded(config, log, earlier, "evaluate")
        if data.classes != net.classes:
            raise OcheError(
                f"{data.name} has the classes {_some(data.classes)}, and {run.path} was trained on {_some(net.classes)}; "
                "give data with the same classes"
            )
        check_channels(data.name, data.channels, run, net)
    if data.test is None:
        raise OcheError(
            f"{run.path} has no test images of its own, since nothing was held out; give --data to measure on"
        )
    engine = Engine(device, config.threads)
    test = data.test
    majority_shares(data, {"test": test}, log)  # names the classes that it lacks
    data = replace(data, mean=net.mean, std=net.std)
    return assess(net, test.to(engine.device), data, engine, "test")


def _whole(run: Run, net: Classifier, config: Any, earlier: Earlier, log: Log) -> Dataset:
    """Return other data as test images of the network, with its classes, matched by name.

    Tells what is measured, and how many of the images the run trained on. Raises `OcheError` for classes that the network
    does not have.
    """
    found = load_measured(
        config.data, net.classes, channels=net.about.channels, image=net.image, pixels=net.pixels, data_dir=config.data_dir,
        layout=config.layout, skip=config.damaged == "skip", show=not log.quiet,
    )  # fmt: skip
    check_channels(found.name, found.train.shape[0], run, net)
    labels, there = found.train.labels, found.train.labels.unique().tolist()
    if strange := [found.classes[k] for k in there if found.classes[k] not in net.classes]:
        raise OcheError(
            f"{found.name} has the {'class' if len(strange) == 1 else 'classes'} {_some(strange)}, and {run.path} was trained on "
            f"{_some(net.classes)}; remove or rename what the network does not know"
        )
    numbers = torch.tensor([net.classes.index(name) if name in net.classes else -1 for name in found.classes])
    split = found.train.relabelled(numbers[labels])
    for line in filter(None, found.note.split("; ")):
        log.say(f"data: {line}")
    if earlier.manifest is None:
        log.warn(f"images of {found.name}: whether {run.path} was trained on some is not known, since it recorded none")
    elif split.ids is not None:
        seen = int(torch.isin(split.ids, earlier.manifest.ids[earlier.manifest.members(FIRST, SECOND)]).sum())
        if seen:
            log.warn(
                f"images of {found.name} that {run.path} was trained on: {seen:,} of {len(split):,}; accuracy on them is no test"
            )
    return Dataset(found.name, split, split, net.classes, net.mean, net.std, Augment(), found.note)


def check_channels(name: str, channels: int, run: Run, net: Classifier) -> None:
    """Raise `OcheError` if images of ``channels`` channels do not fit the network."""
    if channels != net.about.channels:
        raise OcheError(f"{name} has {channels} channels, and {run.path} was trained on {net.about.channels}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … ({len(names)})" if len(names) > 5 else "")
