"""The parts of a search's page that say how it decided, and whether it was healthy."""

from __future__ import annotations

from oche.core.architecture import cell_title
from oche.report import cost_page as priced
from oche.report import format_text as words
from oche.report.figures import Album
from oche.report.heatmap import chosen, heat
from oche.report.html.page import Figure, Fold, Item, Prose, Row, Section, slug
from oche.report.mixture_history import Group, number
from oche.report.plots import curves, mixtures
from oche.report.read_run import Run

_SOFTMAX = "Softmax of the architecture logits α: how much of each candidate flows through each edge."
_SCALED = "Weight of each candidate times the weight of its edge, which is what the decision ranks."
READING = (
    " Edges along x (source → target), operations along y. Frames mark what the cell would keep at that epoch. Move the slider "
    "to see it form."
)
_COLLAPSE = (
    "Collapse, the known failure of this kind of search, looks like this: late in the search skip connections, which have no "
    "weights to learn and carry gradients freely, take over the normal cell; its share below climbs towards one, while "
    "validation accuracy in the search still looks good and the network trained from the cell is poor."
)
_ENTROPY = (
    "Entropy tells how decided the mixture is: it falls from the logarithm of the number of candidates, where all weigh the "
    "same, towards zero, where each edge has one operation left. "
)


def search_sections(album: Album, run: Run) -> list[Section]:
    return [
        Section("How the search decided", list(_decided(album, run)), "heat"),
        Section("Was the search healthy?", list(_healthy(album, run)), "health"),
    ]


def _decided(album: Album, run: Run) -> list[Item]:
    evolution = [figure for group in run.groups for figure in _group(album, run, group)]
    fold = [Fold("Every edge over the epochs", evolution)] if evolution else []
    maps = heat([(run.name, run)])
    if maps is None:
        return [Prose("No architecture weights have been recorded, so there is no heat map.")]
    what = _SCALED if any(group.scaled for group in run.groups) else _SOFTMAX
    return [Prose(what + READING), maps, *fold]


def _group(album: Album, run: Run, group: Group) -> list[Figure]:
    """Files of the heat maps; in the page, the evolution edge by edge (the heat maps there are drawn by its script)."""
    epoch, weights = group.history[-1]
    safe, what = slug(group.name), "weight × edge weight" if group.scaled else "softmax(α)"
    edges, candidates = group.edges, group.candidates
    title = f"{cell_title(group.name)}: {what} at epoch {epoch}"
    kept = chosen(group, run.genotype)
    album.plot(f"heatmap-{safe}", mixtures.alpha_heatmap(weights, edges, candidates, title, group.inputs, kept), title)
    if len(group.history) == 1:
        return []
    title = f"{cell_title(group.name)}: {what} over epochs"
    album.plot(f"snapshots-{safe}", mixtures.alpha_snapshots(group.history, edges, candidates, title), title)
    drawing = mixtures.alpha_evolution(group.history, edges, candidates, title)
    caption = f"{title}, edge by edge: rows are target nodes, columns sources"
    return [album.plot(f"evolution-{safe}", drawing, caption, wide=True)]


def _healthy(album: Album, run: Run) -> list[Item]:
    items: list[Item] = []
    skips = not run.groups or any("skip_connect" in group.candidates for group in run.groups)
    cell = next(iter(run.genotype.cells.values())) if run.genotype else None
    level, reading = words.collapse(run.records, len(cell.edges) if cell else None)
    if skips or level != "ok":
        items.append(Prose(reading, level))
    if truth := words.truth(run.records, run.figure("true_acc"), run.figure("regret")):
        items.append(Prose(truth))
    if skips:
        items.append(Prose(_COLLAPSE))
    sizes = {group.name: len(group.candidates) for group in run.groups}
    items.append(Prose(_ENTROPY + words.decided(run.records, sizes)))
    if (price := priced.Price.of(run.space)) and (told := priced.told(run.records, price)):
        items.append(Prose(told))
    figures = _curves(album, run, sizes, skips)
    return [*items, Row(figures) if figures else Prose("No epoch has been recorded, so there are no curves.")]


def _curves(album: Album, run: Run, sizes: dict[str, int], skips: bool) -> list[Figure]:
    figures = _truth(album, run)
    if epochs := [r for r in run.records if r["epoch"] > 0]:
        drawing = curves.learning_curves(epochs, "Search", run.measure)
        figures.append(album.plot("search-curves", drawing, "Learning curves of the search"))
    if (price := priced.Price.of(run.space)) and priced.known(run.records):
        drawing = priced.costs(run.records, price, run.measure)
        caption = f"{price.name} of the network to be found, and validation {run.measure.name} in the search"
        figures.append(album.plot("costs", drawing, caption[0].upper() + caption[1:]))
    if run.groups:
        history = {group.name: (group.candidates, group.history) for group in run.groups}
        figures.append(album.plot("operations", mixtures.operation_shares(history), "Mean weight of each operation"))
    if any(r["entropy"] for r in run.records):
        uniform = sizes[run.groups[0].name] if len(set(sizes.values())) == 1 else None
        figures.append(album.plot("entropy", curves.entropy(run.records, uniform), "Entropy of the operation weights"))
    if skips and any(r["skip_share"] for r in run.records):
        figures.append(
            album.plot("skip-share", curves.skip_share(run.records), "Share of skip connections in the cell")
        )
    return figures


def _truth(album: Album, run: Run) -> list[Figure]:
    """The curve that shows collapse, where a table of NAS-Bench-201 was at hand."""
    if not any(r["true_acc"] is not None for r in run.records):
        return []
    known = run.space.get("truth")
    best = number(known.get("best")) if isinstance(known, dict) else None
    drawing = curves.truth(run.records, best, "True test accuracy, by the table")
    return [album.plot("truth", drawing, "True test accuracy of the cell that the search would choose at each epoch")]
