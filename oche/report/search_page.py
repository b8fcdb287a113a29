"""The sections of a search's page: its architecture weights over the epochs, and diagnostics of the search."""

from __future__ import annotations

from oche.core.architecture import cell_title
from oche.report.decision_text import MARGIN, decision_finding, decision_row
from oche.report.figures import FigureWriter
from oche.report.findings import collapse_finding, cost_finding, entropy_finding, ground_truth_finding, has_costs
from oche.report.format_numbers import finite_float
from oche.report.heatmap import decided_choices, heat_maps
from oche.report.html.page import Figure, Fold, Item, Prose, Row, Section, Table, slug
from oche.report.metrics import CostTarget
from oche.report.mixture_history import MixtureHistory, find_decisions
from oche.report.plots import curves, mixtures
from oche.report.read_run import RunData

_SOFTMAX = "Softmax of the architecture logits α: the weight of each candidate operation on each edge."
_SCALED = "Weight of each candidate operation times the weight of its edge: the product that the decision ranks."
READING = (
    " Columns are edges (source → target), rows are operations. Frames mark the operations that the cell would keep at that "
    "epoch, of the nodes that the search had decided by then. Colours start at 0 and do not adapt to small differences. Move "
    "the slider to see how the weights change."
)
_COLLAPSE = (
    "Collapse is the known failure of differentiable architecture search. Late in the search skip connections, which have no "
    "weights to learn and pass gradients unchanged, take over the normal cell. Their share (curve below) rises towards one; "
    "validation accuracy in the search still looks good, but the network trained from the cell is poor."
)
_ENTROPY = (
    "The entropy of the mixture starts at the logarithm of the number of candidates, where all have the same weight, and falls "
    "to zero when each edge has one operation left. "
)


def search_sections(writer: FigureWriter, run: RunData) -> list[Section]:
    """Return the sections about the search itself; figures go to ``writer``."""
    return [
        Section("Architecture weights", _weights(writer, run), "heat"),
        Section("Search diagnostics", _diagnostics(writer, run), "health"),
    ]


def _weights(writer: FigureWriter, run: RunData) -> list[Item]:
    maps = heat_maps([(run.name, run)])
    if maps is None:
        return [Prose("No architecture weights have been recorded, so there is no heat map.")]
    evolution = [figure for mixture in run.mixtures for figure in _mixture(writer, run, mixture)]
    folded = [Fold("Every edge over the epochs", evolution)] if evolution else []
    text = _SCALED if any(mixture.scaled for mixture in run.mixtures) else _SOFTMAX
    return [*_decisions(run), Prose(text + READING), maps, *folded]


def _decisions(run: RunData) -> list[Item]:
    """Return the sentence about decided nodes, and a folded table with the least certain choice of each node."""
    found = find_decisions(run.mixtures, run.genotype)
    if not found:
        return []
    mixtures = {mixture.name: mixture for mixture in run.mixtures}
    columns = ("cell", "node", "keeps", "closest rival", "margin", "noise", "p", "decided")
    rows = [decision_row(mixtures[name], node) for name, cell in found.items() for node in cell.nodes]
    return [
        Prose(decision_finding(found)),
        Fold("Every node's margin", [Table("decisions", columns, rows), Prose(MARGIN)]),
    ]


def _mixture(writer: FigureWriter, run: RunData, mixture: MixtureHistory) -> list[Figure]:
    """Write the heat maps as files and return the curves of each edge; the heat maps of the page are drawn by its script."""
    epoch, weights = mixture.history[-1]
    name, what = slug(mixture.name), "weight × edge weight" if mixture.scaled else "softmax(α)"
    edges, candidates = mixture.edges, mixture.candidates
    title = f"{cell_title(mixture.name)}: {what} at epoch {epoch}"
    decided = decided_choices(mixture, run.genotype)
    plot = mixtures.alpha_heatmap(weights, edges, candidates, title, mixture.inputs, decided)
    writer.plot(f"heatmap-{name}", plot, title)
    if len(mixture.history) == 1:
        return []
    title = f"{cell_title(mixture.name)}: {what} over epochs"
    writer.plot(f"snapshots-{name}", mixtures.alpha_snapshots(mixture.history, edges, candidates, title), title)
    plot = mixtures.alpha_evolution(mixture.history, edges, candidates, title)
    caption = f"{title}, edge by edge: rows are target nodes, columns sources"
    return [writer.plot(f"evolution-{name}", plot, caption, wide=True)]


def _diagnostics(writer: FigureWriter, run: RunData) -> list[Item]:
    items: list[Item] = []
    has_skips = not run.mixtures or any("skip_connect" in mixture.candidates for mixture in run.mixtures)
    cell = next(iter(run.genotype.cells.values())) if run.genotype else None
    level, text = collapse_finding(run.records, len(cell.edges) if cell else None)
    if has_skips or level != "ok":
        items.append(Prose(text, level))
    if text := ground_truth_finding(run.records, run.number("true_acc"), run.number("regret")):
        items.append(Prose(text))
    if has_skips:
        items.append(Prose(_COLLAPSE))
    candidates = {mixture.name: len(mixture.candidates) for mixture in run.mixtures}
    items.append(Prose(_ENTROPY + entropy_finding(run.records, candidates)))
    if (cost := CostTarget.of(run.space)) and (text := cost_finding(run.records, cost)):
        items.append(Prose(text))
    figures = _curves(writer, run, candidates, has_skips)
    return [*items, Row(figures) if figures else Prose("No epoch has been recorded, so there are no curves.")]


def _curves(writer: FigureWriter, run: RunData, candidates: dict[str, int], has_skips: bool) -> list[Figure]:
    """Write the curves of everything that the records hold; ``candidates``: number of operations by cell type."""
    figures = _true_accuracy(writer, run)
    if epochs := [r for r in run.records if r["epoch"] > 0]:
        plot = curves.learning_curves(epochs, "Search", run.metric)
        figures.append(writer.plot("search-curves", plot, "Learning curves of the search"))
    if (cost := CostTarget.of(run.space)) and has_costs(run.records):
        plot = curves.cost_curves(run.records, cost, run.metric)
        caption = f"{cost.name} of the final network, and validation {run.metric.name} in the search"
        figures.append(writer.plot("costs", plot, caption[0].upper() + caption[1:]))
    if run.mixtures:
        history = {mixture.name: (mixture.candidates, mixture.history) for mixture in run.mixtures}
        figures.append(writer.plot("operations", mixtures.operation_shares(history), "Mean weight of each operation"))
    if any(r["entropy"] for r in run.records):
        uniform = candidates[run.mixtures[0].name] if len(set(candidates.values())) == 1 else None
        figures.append(writer.plot("entropy", curves.entropy(run.records, uniform), "Entropy of the operation weights"))
    if has_skips and any(r["skip_share"] for r in run.records):
        plot = curves.skip_share(run.records)
        figures.append(writer.plot("skip-share", plot, "Share of skip connections in the cell"))
    return figures


def _true_accuracy(writer: FigureWriter, run: RunData) -> list[Figure]:
    """Write the true accuracy of the chosen cells, where the run had a table of NAS-Bench-201; it shows collapse."""
    if not any(r["true_acc"] is not None for r in run.records):
        return []
    known = run.space.get("truth")
    best = finite_float(known.get("best")) if isinstance(known, dict) else None
    plot = curves.true_accuracy(run.records, best, "True test accuracy, by the table")
    return [writer.plot("truth", plot, "True test accuracy of the cell that the search would choose at each epoch")]
