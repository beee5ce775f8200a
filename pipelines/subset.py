"""A manifest in a user's own training: load it, check that the data are still those, take the chosen samples.

`apply` gives a `datasets.Dataset`, contiguous, whatever the source was; for a torch dataset it gives a torch
`Subset` with a sampler. A manifest knows its members by id, so the order of the source never matters, and it
knows the label that each had, so planted noise and verified labels come out as they were selected.

What was asked to be deleted is handed out by no manifest, older ones included, as long as it lies in its workspace.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import polars as pl
from torch.utils import data as torch_data

from tracesift.catalog.deletions import not_handed_out
from tracesift.catalog.goldfish import masks_of
from tracesift.catalog.manifest import Manifest, read_manifest, read_members, verify_manifest
from tracesift.catalog.schema import ROLES, BadInput, FingerprintMismatch, UnknownName, nearest
from tracesift.pipelines import taking
from tracesift.pipelines.dataset import Dataset, open_dataset
from tracesift.pipelines.handover.paired_loader import Batch, PairedLoader, paired_loader

if TYPE_CHECKING:
    import datasets

Applied: TypeAlias = "datasets.Dataset | tuple[torch_data.Subset[Any], torch_data.WeightedRandomSampler]"

TRAINED = ("keep", "relabel")
"""What `role="keep"` means: a relabelled sample is kept, under its new label."""


class LeftOut(UserWarning):
    """Members were asked to be deleted, and are not handed out."""


def load_manifest(path: str | Path) -> Subset:
    """Read a manifest and its members.

    Parameters
    ----------
    path : str or Path
        A manifest.json, or the folder that holds it.

    Returns
    -------
    Subset
        Only of members whose file has the hash that the manifest lists.

    Raises
    ------
    BadInput
        There is no manifest, it comes from a newer tracesift, or its members are not those written with it; or
        deletions were requested in its workspace, and the key that recognises them is gone.
    """
    manifest = read_manifest(path)
    members = read_members(path, manifest)
    deleted = not_handed_out(members, manifest, path)
    return Subset(path=Path(path), manifest=manifest, members=members, deleted=deleted)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """A loaded manifest.

    Attributes
    ----------
    path : Path
        Where it was read from.
    manifest : Manifest
        The record: name, version, dataset, selector, scores, counts, fingerprint.
    members : DataFrame
        `sample_id, role, weight, label, new_label, reason`, sorted by sample_id.
    deleted : frozenset of str
        Members that were asked to be deleted, but for those that are to be unlearned: they are not handed out.
    """

    path: Path
    manifest: Manifest
    members: pl.DataFrame
    deleted: frozenset[str] = frozenset()

    @property
    def given(self) -> pl.DataFrame:
        """The members that are handed out."""
        return (
            self.members.filter(~pl.col("sample_id").is_in(list(self.deleted)))
            if self.deleted
            else self.members
        )

    def left_out(self, roles: Sequence[str] = ROLES) -> str | None:
        """Say how many members of these roles are not handed out because they were asked to be deleted, if any."""
        number = self.members.filter(pl.col("role").is_in(roles)).height
        number -= self.given.filter(pl.col("role").is_in(roles)).height
        samples = "1 sample that was" if number == 1 else f"{number:,} samples that were"
        return f"{self.manifest.name}: without {samples} asked to be forgotten" if number else None

    def verify(self, dataset: Any, *, allow_superset: bool = False, ids: Sequence[Any] | None = None) -> None:
        """Check the manifest's own hashes, and that `dataset` is in the state that it was made for.

        Parameters
        ----------
        dataset : anything that `open_dataset` takes, or a Dataset
            Opened as the manifest says that its source was.
        allow_superset : bool
            Admit a dataset that holds more samples than then.
        ids : sequence, optional
            One id per row of a torch dataset, where it was opened with some.

        Raises
        ------
        FingerprintMismatch
            The dataset differs; the message says how many members are gone, relabelled or moved, and how many
            rows came.
        BadInput
            The manifest differs from what was written.
        """
        differences = verify_manifest(self.path)
        if differences:
            raise BadInput("; ".join(differences))
        self._check(self.opened(dataset, ids), allow_superset=allow_superset)

    def apply(
        self,
        dataset: Any,
        role: str | Sequence[str] = "keep",
        *,
        allow_superset: bool = False,
        ids: Sequence[Any] | None = None,
    ) -> Applied:
        """Take the members of a role out of the dataset, with their weights and new labels.

        Parameters
        ----------
        dataset : anything that `open_dataset` takes, or a Dataset
            The data to take from; checked as `verify` does.
        role : str or sequence of str
            ``"keep"`` includes the relabelled; a sequence is taken literally.
        allow_superset : bool
            Admit a dataset with added rows; they are no members and stay out.
        ids : sequence, optional
            One id per row of a torch dataset, where it was opened with some.

        Returns
        -------
        datasets.Dataset
            Rows by ascending id with the columns of the source, `sample_id` and `weight`. For a torch dataset
            instead a `Subset` of it and a `WeightedRandomSampler`: by weight with replacement, or, where all
            weights are equal, each member once in a seeded random order.

        Raises
        ------
        FingerprintMismatch
            The dataset is not in the state that the manifest was made for.
        UnknownName
            There is no such role.
        """
        wanted = TRAINED if role == "keep" else (role,) if isinstance(role, str) else tuple(role)
        opened = self.opened(dataset, ids)
        self._check(opened, allow_superset=allow_superset)
        taken, _ = self.taken(opened, wanted)
        self._tell(wanted)
        if taking.is_torch(dataset):
            return taking.torch_subset(dataset, opened, taken, seed=self.manifest.selector.seed or 0)
        return taking.contiguous(dataset, opened, taken)

    def loaders(
        self,
        dataset: Any,
        *,
        forget: int | Batch,
        retain: int | Batch,
        neighbor: int | Literal["mixed"] | None = "mixed",
        plan: Literal["paired", "cyclic", "melu"] = "paired",
        modules: pl.DataFrame | str | None = None,
        seed: int = 0,
        workers: int = 0,
        transform: Callable[[Any], Any] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        allow_superset: bool = False,
        ids: Sequence[Any] | None = None,
    ) -> PairedLoader:
        """Return batches of what to forget, and beside each what must survive, for an unlearning loop of one's own.

        Parameters
        ----------
        dataset : anything that `open_dataset` takes, or a Dataset
            Checked as `verify` does.
        forget, retain : int or Batch
            Samples in a batch, of each process; a `Batch` names other roles than these two.
        neighbor : int, "mixed" or None
            Neighbours of what is forgotten: among the retained, or in batches of their own of so many samples under
            ``"neighbor"``, or left out.
        plan : {"paired", "cyclic", "melu"}
            What an epoch is. ``"paired"``: the forget set once, a batch of the others beside each of its batches.
            ``"cyclic"``: the set with the most batches once, the shorter ones again and again, each time in another
            order. ``"melu"``: module by module, each as ``"cyclic"``.
        modules : DataFrame or str, optional
            For ``"melu"``: `sample_id` and `module` (an entity, an author), or the column of the data that says it; by
            default the group that the dataset was opened with.
        seed : int
            With the position, decides every order.
        workers : int
            Processes that read ahead; they change nothing else. They are not forked, so `transform` and `collate` must
            pickle, and a script needs its ``if __name__ == "__main__":``.
        transform : callable, optional
            Applied to each input: to the first of a torch dataset's pair, to the row of a `datasets.Dataset` as it
            gives it, else to the input as `Dataset.inputs` holds it (uint8 H, W, C; a text; a dict of features).
        collate : callable, optional
            Makes the inputs of a batch out of a list of them, such as a tokenizer; torch's default otherwise.
        allow_superset : bool
            Admit a dataset with added rows; they are no members and stay out.
        ids : sequence, optional
            One id per row of a torch dataset, where it was opened with some.

        Returns
        -------
        PairedLoader
            Yields ``{"forget": batch, "retain": batch}``; each batch is a dict of `inputs`, `labels` (B,) int64 (as
            the source numbers them, else places in `Dataset.classes`), `weights` (B,) float32 as the manifest has
            them, `sample_ids` (list of str) and `rows` (B,) int64. Batches of a set differ in size by one at most.

        Raises
        ------
        FingerprintMismatch
            The dataset is not in the state that the manifest was made for.
        BadInput
            A set without members, or settings that do not fit together.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> from tracesift.catalog.manifest import DatasetBlock, SelectorBlock, write_manifest
        >>> digits = open_dataset("digits")
        >>> facts = {name: getattr(digits, name) for name in ("name", "source", "fingerprint", "options")}
        >>> state = DatasetBlock(**facts, num_samples=len(digits))
        >>> eight = pl.when(pl.col("label") == "8").then(pl.lit("forget")).otherwise(pl.lit("retain"))
        >>> members = digits.samples.filter(split="train").select("sample_id", "label", role=eight)
        >>> how = SelectorBlock(name="by_hand", version=1)
        >>> with TemporaryDirectory() as folder:
        ...     _ = write_manifest(folder, "no-8", members, dataset=state, selector=how)
        ...     loader = load_manifest(f"{folder}/no-8").loaders(digits, forget=16, retain=32)
        >>> step = next(iter(loader))
        >>> len(loader), step["forget"]["labels"].unique().tolist(), tuple(step["retain"]["inputs"].shape)
        (8, [8], (32, 8, 8, 1))
        """
        retained = ("retain", "neighbor") if neighbor == "mixed" else ("retain",)
        sets = {
            "forget": forget if isinstance(forget, Batch) else Batch(forget, ("forget",)),
            "retain": retain if isinstance(retain, Batch) else Batch(retain, retained),
        }
        if isinstance(neighbor, int):
            sets["neighbor"] = Batch(neighbor, ("neighbor",))
        elif neighbor not in ("mixed", None):
            raise BadInput(f"neighbor={neighbor!r}: 'mixed' into the retained, the size of batches, or None")
        opened = self.opened(dataset, ids)
        self._check(opened, allow_superset=allow_superset)
        wanted = [role for batch in sets.values() for role in batch.roles]
        taken, roles = self.taken(opened, wanted)
        self._tell(wanted)
        return paired_loader(
            dataset, opened, taken, roles, sets,
            plan=plan, modules=modules, seed=seed, workers=workers, transform=transform, collate=collate,
        )  # fmt: skip

    def goldfish(self) -> pl.DataFrame:
        """Return which tokens of each text the loss leaves out, as `tracesift goldfish` wrote them.

        Returns
        -------
        DataFrame
            A row per member that is handed out to be trained on, by `sample_id`: how many `tokens` its text has, and
            the positions of those that are `masked`, from 0 on and ascending.

        Raises
        ------
        BadInput
            This version has no masks, or they are not those written for it.
        """
        folder = self.path if self.path.is_dir() else self.path.parent
        found = masks_of(folder, self.manifest, self.members)
        if found is None:
            raise BadInput(
                f"manifest {self.manifest.name} (version {self.manifest.version}) has no goldfish masks: make them "
                f"with `tracesift goldfish {self.manifest.name} --tokenizer NAME`"
            )
        return found[0].filter(pl.col("sample_id").is_in(self.given["sample_id"].implode()))

    def taken(self, dataset: Dataset, roles: Sequence[str]) -> tuple[taking.Taken, pl.Series]:
        """Return the members of some roles by ascending id, with the labels to train on, and the role of each.

        Those that were asked to be deleted are left out.
        """
        for name in roles:
            if name not in ROLES:
                raise UnknownName(f"no role '{name}'{nearest(name, ROLES)}; there are {', '.join(ROLES)}")
        chosen = self.given.filter(pl.col("role").is_in(roles))
        rows = dataset.samples["sample_id"].search_sorted(chosen["sample_id"]).to_numpy().astype(np.int64)
        given = dataset.samples["label"].gather(rows)
        labels = chosen.select(pl.coalesce("new_label", "label", given))["new_label"]
        taken = taking.Taken(rows=rows, ids=chosen["sample_id"], weights=chosen["weight"], labels=labels)
        return taken, chosen["role"]

    def opened(self, dataset: Any, ids: Sequence[Any] | None = None) -> Dataset:
        """Open a source as the manifest's own was opened; whether it is in the same state is not looked at."""
        if isinstance(dataset, Dataset):
            return dataset
        options = {name: value for name, value in self.manifest.dataset.options.items() if value is not None}
        for part in ("val", "test"):
            if isinstance(options.get(part), str) and options[part].startswith("<"):
                raise BadInput(
                    f"manifest {self.manifest.name} was made from a dataset with its {part} rows in another "
                    f"object: pass open_dataset(..., {part}=...) instead of the bare source"
                )
        if not isinstance(dataset, (str, Path)):
            for name in ("format", "delimiter", "encoding"):
                options.pop(name, None)
        if taking.is_torch(dataset):
            for name in ("label", "id", "text", "image", "features", "split", "group"):
                options.pop(name, None)
            return open_dataset(dataset, ids=ids, **options)
        return open_dataset(dataset, **options)

    def _tell(self, roles: Sequence[str]) -> None:
        if said := self.left_out(roles):
            warnings.warn(said, LeftOut, stacklevel=3)

    def _check(self, dataset: Dataset, *, allow_superset: bool) -> None:
        made_for = self.manifest.dataset
        if dataset.fingerprint == made_for.fingerprint:
            return
        changes, harmless = self._changes(dataset)
        may_hold_purged = self.manifest.purged or made_for.purged
        if harmless and (allow_superset or may_hold_purged):
            return
        ending = "make the subset anew" + (
            "" if allow_superset else ", or admit added rows (allow_superset=True)"
        )
        raise FingerprintMismatch(
            f"{dataset.name} is not the dataset that manifest {self.manifest.name} (version "
            f"{self.manifest.version}) was made for: fingerprint {dataset.fingerprint[:16]}…, then "
            f"{made_for.fingerprint[:16]}…; {'; '.join(changes)}; "
            + (ending if harmless else "open the data as it was then, or make the subset anew")
        )

    def _changes(self, dataset: Dataset) -> tuple[list[str], bool]:
        """Return what changed, in words, and whether rows were added and nothing else."""
        now = dataset.samples.select(
            "sample_id", pl.col("split").alias("split_now"), pl.col("label").alias("label_now")
        )
        both = self.members.join(now, on="sample_id", how="left")
        gone = both.filter(pl.col("split_now").is_null())
        there = both.filter(pl.col("split_now").is_not_null())
        moved = there.filter((pl.col("split_now") != "train") & (pl.col("role") != "holdout"))
        relabelled = there.clear()
        if (
            self.manifest.dataset.transform == dataset.transform
        ):  # else the labels differ by the planted noise
            relabelled = there.filter(
                pl.col("label").is_not_null() & (pl.col("label") != pl.col("label_now"))
            )
        said = []
        for frame, words in ((gone, "gone"), (relabelled, "relabelled"), (moved, "in another split")):
            if frame.height:
                said.append(
                    f"{words}: {frame.height} of {both.height} members (first '{frame['sample_id'][0]}')"
                )
        harmless = not said
        more = len(dataset) - (self.manifest.dataset.num_samples - gone.height)
        if more > 0:
            said.append(f"{'1 sample was' if more == 1 else f'{more} samples were'} added")
        if not said:
            said.append("all members are there, so what changed are other rows or the schema")
        return said, harmless and more > 0
