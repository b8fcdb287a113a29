"""A run directory, read from Python."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from oche.core.architecture import Genotype
from oche.core.arguments import checked
from oche.core.config.yaml_files import load_yaml, read_yaml
from oche.core.errors import OcheError
from oche.core.genotypes import read_file
from oche.core.plugins import load_plugins_named_in
from oche.runs.claim import check_run
from oche.runs.config import FitConfig, SearchConfig, TrainConfig
from oche.runs.directory import read_metrics
from oche.runs.documents import read_document

Kind = Literal["search", "train", "toy", "fit"]
DATA = "data"  # the folder of a run for data that were handed over in Python


@checked
@dataclass(frozen=True)
class Run:
    """A run directory. Files are read when they are needed."""

    path: Path

    @classmethod
    @checked
    def open(cls, path: str | Path) -> Run:
        """Return the run at ``path``. Raises `OcheError` if there is none."""
        check_run(Path(path))
        return cls(Path(path))

    def _json(self, name: str) -> dict[str, Any]:
        return read_document(self.path / name)

    @property
    def state(self) -> str:
        """running, interrupted, failed or complete."""
        return str(self._json("status.json").get("state", "failed"))

    @property
    def kind(self) -> Kind:
        """search, train or fit; toy for the toy problem."""
        found = self._json("status.json").get("kind")
        if found is None:  # the file is damaged; the settings tell
            found = "train" if "genotype" in read_yaml(self.path / "config.yaml") else "search"
        return cast("Kind", found)

    def trained(self) -> Run:
        """Return the training in a fit, and any other run itself."""
        return Run.open(self.path / "train") if self.kind == "fit" else self

    @property
    def summary(self) -> dict[str, Any]:
        """The results of a complete run; {} before."""
        return self._json("summary.json")

    @property
    def history(self) -> list[dict[str, Any]]:
        """The records of the epochs, see docs/runs.md."""
        return read_metrics(self.path)

    @property
    def genotype(self) -> Genotype:
        """The cells that were found (by a search), or trained. Raises `OcheError` if there are none."""
        if self.kind == "fit":
            return self.trained().genotype
        file = self.path / "genotype.txt"
        if not file.exists():
            if self.kind == "train":
                raise OcheError(f"{self.path} trains {self.config.genotype!r}, which has no cells")
            raise OcheError(f"{self.path} has no genotype yet; go on with: oche resume {self.path}")
        return read_file(file)

    @cached_property
    def config(self) -> Any:
        """The `SearchConfig`, `TrainConfig` or `FitConfig` of the run. Raises `OcheError` for a run of another kind."""
        kinds = {"search": SearchConfig, "train": TrainConfig, "fit": FitConfig}
        if self.kind not in kinds:
            raise OcheError(
                f"{self.path} is a {self.kind} run, which has no settings; give one of a search or a training"
            )
        load_plugins_named_in(self.path / "config.yaml")
        return self._with_own_data(load_yaml(self.path / "config.yaml", kinds[self.kind]()))

    def _with_own_data(self, config: Any) -> Any:
        """Return ``config`` with the file that this run keeps, or the run around it, at its present place.

        It is elsewhere than config.yaml says if the directory was moved.
        """
        place = Path(config.data)
        if place.parent.name != DATA or place.exists():
            return config
        homes = (home / DATA / place.name for home in (self.path.absolute(), self.path.absolute().parent))
        return next((replace(config, data=str(file)) for file in homes if file.exists()), config)
