"""The command `protect`: unlearnable examples out of a source, for their owner, and as data with a known truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tracesift.catalog.parameter_types import settings_of
from tracesift.catalog.schema import BadInput
from tracesift.flows.options import Common, Reading, Whole, checked_seed
from tracesift.flows.parameters import settings
from tracesift.flows.progress import counted, say, watched


def protect(
    source: str,
    /,
    *,
    method: str,
    out: Path,
    common: Common = Common(),
    reading: Reading = Reading(),
    share: float = 1.0,
    eps: float | None = None,
    seed: Whole = 0,
    param: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    device: str = "auto",
) -> int:
    """Make training samples unlearnable: small changes that a model learns in place of the content.

    Writes a dataset that `tracesift curate` opens (OUT/data.parquet, ids as in the source) and the truth beside it
    (OUT/truth/protection.json). `curate` on it measures the detectors against that truth.

    Parameters
    ----------
    source
        Images or texts; `tracesift curate --help` lists the forms.
    method
        error_min_noise_samplewise, error_min_noise_classwise, lsp, one_pixel, class_patches or bayes_error_noise
        (experimental) for images, rare_token_trigger for texts.
    out
        Folder to write; a new one.
    share
        Share of the training samples to change, drawn by id and seed.
    eps
        Budget in grey levels of 255; the method's published one by default.
    seed
        Decides which samples are changed, and is the method's seed.
    param
        A setting of the method, as key=value; may be given several times.
    device
        Where a network of the method runs: auto, cpu, cuda, cuda:1 …
    """
    from tracesift.flows.commands.stages import answer
    from tracesift.flows.work import open_source, tell
    from tracesift.pipelines.protection.contract import find
    from tracesift.pipelines.protection.protecting import protect as protected
    from tracesift.pipelines.protection.writing import RECORD, check_free, made_before, write_protected

    checked_seed(seed)
    known, chosen = find(method), settings(param)
    if eps is not None:
        if "eps" not in known.defaults:
            raise BadInput(f"--eps {eps}: {method} has no budget of this sort; leave it out")
        if "eps" in chosen and chosen["eps"] != eps:
            raise BadInput(f"--eps {eps} and --param eps={chosen['eps']} differ; give one of them")
        chosen["eps"] = eps
    chosen = settings_of(method, known.function, known.defaults, chosen)
    if not (out / RECORD).exists():
        check_free(out)
    dataset = open_source(source, reading)
    wanted = {
        "method": method, "method_version": known.version, "parameters": chosen, "seed": seed,
        "share": float(share),
    }  # fmt: skip
    record = made_before(out, wanted, dataset.fingerprint)
    if record is not None:
        say(f"{out} holds just this already: nothing was made again")
    else:
        check_free(out)
        with watched("protect") as progress:
            made = protected(
                dataset, method, share=share, seed=seed, settings=chosen, device=device, progress=progress
            )
            record = write_protected(made, out, progress=progress)
    tell(dataset)
    if known.experimental:
        say(f"{method} is experimental: how well it protects is not established (docs/protection.md)")
    if record["report"].get("reached") is False:
        say(
            f"the surrogate still errs on {record['report']['surrogate_error']:.1%} after {record['report']['rounds']} "
            f"rounds, above stop_error={record['parameters']['stop_error']:g}: weak noise; allow more with "
            f"--param rounds={2 * record['report']['rounds']}"
        )
    result = {
        "data": str(out / record["data"]["file"]), "truth": str(out / RECORD), "method": method,
        "changed": record["counts"]["changed"], "train": record["counts"]["train"],
        "parameters": record["parameters"], "seed": seed, "report": record["report"],
    }  # fmt: skip
    answer(result if common.json else {**result, **_in_words(record)}, common)
    if others := len(dataset) - len(dataset.rows("train")):
        say(
            f"only training samples are changed; {counted(others, 'sample')} of val and test "
            f"{'is' if others == 1 else 'are'} written as in the source. Where they were cut from train, --val 0 "
            "--test 0 leaves none out"
        )
    if not common.json:
        say(f"next: tracesift curate {out}")
    return 0


def _in_words(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters and report as a person reads them: what was set, and classes by their names."""
    classes, report = record["classes"], dict(record["report"])
    if "pixels" in report:
        report["pixels"] = "; ".join(
            f"{classes[int(at)]}: "
            + ", ".join(f"row {one['row']}, column {one['column']}, colour {one['colour']}" for one in pixels)
            for at, pixels in report["pixels"].items()
        )
    if "bayes_error" in report:
        spans = ", ".join(f"{before:.3f} to {after:.3f}" for before, after in report.pop("bayes_error"))
        report["Bayes error by each surrogate's own estimate"] = spans
    if "tokens" in report:
        report["tokens"] = ", ".join(f"{classes[at]}: {token}" for at, token in enumerate(report["tokens"]))
    given = {name: value for name, value in record["parameters"].items() if value is not None}
    return {"parameters": given, "report": report}
