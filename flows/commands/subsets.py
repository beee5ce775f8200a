"""Commands that make subsets and say what they are worth: `select`, `forget`, `advise`, `evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tracesift.catalog.parameter_types import checked_params
from tracesift.catalog.schema import BadInput
from tracesift.flows.commands.purge import tell_purge
from tracesift.flows.options import AUTO, Common, Training, Whole, checked_seed
from tracesift.flows.parameters import settings
from tracesift.flows.progress import watched
from tracesift.flows.show import console, print_json, print_table

if TYPE_CHECKING:
    from tracesift.flows.work import Work
    from tracesift.selectors.advice import Choice

Repeated = Parameter(negative="")

SHOWN_OF_REQUESTS = (
    "request_id", "created_at", "kind", "source", "num_requested", "num_untrained", "num_exact", "num_near",
    "num_gone", "num_found", "subset", "version", "status",
)  # fmt: skip
"""Columns of the table of requests, `num_gone` where there is any; --json gives all."""


def select(
    selector: str,
    /,
    *,
    common: Common = Common(),
    keep: float | None = None,
    count: Whole | None = None,
    name: str | None = None,
    where: str | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    embedding: str | None = None,
    target: str | None = None,
    seed: Whole = 0,
    param: Annotated[tuple[str, ...], Repeated] = (),
) -> int:
    """Make a subset with its manifest and two random controls of the same size.

    Parameters
    ----------
    selector
        How to choose; `tracesift selectors` lists them, and auto takes one by what is known (`tracesift advise`).
    keep
        Share of the training samples to keep; with mu_coreset, of the forget set.
    count
        Number of samples to keep; with a chooser of forget sets, to forget.
    name
        Name of the subset; the selector's by default.
    where
        Choose only among samples that fit this SQL condition over their scores and flags, such as "aum > 0".
    from_
        Choose only among what another subset trains on, with the labels that it corrected and its weights:
        `--from denoised` cleans first and prunes then. Without it, flagged samples are left out.
    embedding
        The stored embedding that the selector reads, by its name (`tracesift embed` makes them, and a graph of
        neighbours with each); by default the features of the newest recording, for forget_ready and semdedup the
        content.
    target
        With snp_search, the domain to select towards; the val split by default. A dataset of the same kind and columns
        (a folder of images, CSV, Parquet …) of which labels, ids and splits are not read, made into vectors by what
        made those in use; or where these are your own, a file of vectors by the same encoder (.npz, .npy, Parquet).
    seed
        Seed of random choices.
    param
        A parameter of the selector, as key=value; may be given several times.
    """
    from tracesift.flows.forgetting.deletion import Handling, handle
    from tracesift.flows.forgetting.dividing import corrective
    from tracesift.flows.forgetting.forget_sets import WITHIN, make_forget_set
    from tracesift.flows.forgetting.requests import Request, check_known, check_trained
    from tracesift.flows.make_subset import BY_FLAG, divided, pruned
    from tracesift.flows.selecting.duplicates import tell_duplicates, vectors_of_all
    from tracesift.flows.selecting.queries import asks, without
    from tracesift.flows.selecting.selector_arrays import check_reads_target
    from tracesift.flows.selecting.written import check_replaces
    from tracesift.flows.work import existing
    from tracesift.selectors.contract import find

    work = existing(common.workspace)
    checked_seed(seed)
    if keep is not None and count is not None:
        raise BadInput("give --keep or --count, not both")
    chosen = settings(param)
    called, because = selector.replace("_", "-"), ""
    if selector == AUTO:
        choice = _auto(work, keep if count is None else count, chosen, from_, embedding)
        selector, chosen = choice.selector, choice.params
        embedding, because = choice.embedding, choice.because
    facts = find(selector)
    if facts.chooses == "forget" and count is not None and "count" in facts.defaults:
        if "count" in chosen:
            raise BadInput(f"--count {count} and --param count={chosen['count']} say the same; give one")
        chosen, count = {**chosen, "count": count}, None
    if facts.budget and keep is None and count is None:
        share = "" if facts.chooses == "forget" and selector != WITHIN else "--keep 0.3 for a share, or "
        raise BadInput(f"{selector} needs a size: {share}--count 500")
    if not facts.budget and (keep is not None or count is not None):
        raise BadInput(
            f"{selector} decides by itself how many samples it keeps; leave out --keep and --count"
        )
    if keep is not None and not 0 < keep <= 1:
        raise BadInput(f"--keep {keep}: a share in (0, 1], such as 0.3; --count takes a number of samples")
    if count is not None and count < 1:
        raise BadInput(f"--count {count}: at least 1")
    called = called if name is None else name
    _check_name(called)
    check_replaces(work, called, forgets=selector == "forget_ready" or facts.chooses == "forget")
    own_loss = asks(selector, chosen)
    checked = checked_params(selector, facts.function, without(chosen) if own_loss else chosen)
    chosen = {**chosen, **checked}
    if selector == "forget_ready" and where is not None:
        raise BadInput(
            "forget_ready divides all samples; `tracesift forget --where SQL` says which to forget"
        )
    if from_ is not None and selector in (*BY_FLAG, "forget_ready"):
        raise BadInput(f"--from {from_}: {selector} divides all samples; leave it out")
    if selector in BY_FLAG and embedding is not None:
        raise BadInput(f"--embedding {embedding}: {selector} reads no embedding; leave it out")
    if target is not None:
        check_reads_target(facts, target)
    with work.locked(), watched("select"):
        if selector in BY_FLAG:
            made = divided(work, selector, seed=seed, name=called, where=where, params=chosen)
        elif selector == "forget_ready":
            if (ids := chosen.pop("forget", None)) is None:
                made = corrective(work, seed=seed, name=called, params=chosen, embedding=embedding)
            else:
                check_known(work.dataset, ids)
                check_trained(work.dataset, ids)
                asked = Request(ids=tuple(sorted(set(ids))), kind="ids", source="--param forget")
                how = Handling(name=called, seed=seed, params=chosen, embedding=embedding)
                (answer,) = handle(work, [asked], how)
                made = [answer, *answer["controls"]]
        elif facts.chooses == "forget":
            made = make_forget_set(
                work, selector, keep=keep, count=count, seed=seed, name=called, where=where, params=chosen,
                embedding=embedding, source=from_,
            )  # fmt: skip
        else:
            budget = keep if count is None else count
            vectors = vectors_of_all(work, embedding) if selector == "semdedup" else None
            made = pruned(
                work, selector, budget=budget, seed=seed, name=called, where=where, params=chosen,
                embedding=embedding, source=from_, target=target, because=because,
            )  # fmt: skip
            if vectors is not None:
                tell_duplicates(work, vectors, chosen, seed)
    _answer(made, common)
    return 0


def forget(
    file: Path | None = None,
    /,
    *,
    common: Common = Common(),
    where: str | None = None,
    class_: Annotated[str | None, Parameter(name="--class")] = None,
    group: str | None = None,
    owner: str | None = None,
    owner_column: str | None = None,
    name: str = "forget-ready",
    append: Annotated[bool, Repeated] = False,
    allow_empty_class: Annotated[bool, Repeated] = False,
    yes: Annotated[bool, Repeated] = False,
    trial: Annotated[bool, Repeated] = False,
    purge: Annotated[bool, Repeated] = False,
    entity: str | None = None,
    embedding: str | None = None,
    seed: Whole = 0,
    param: Annotated[tuple[str, ...], Repeated] = (),
) -> int:
    """Turn a deletion request into a forget-ready subset: what to forget, what must survive, and a holdout.

    Exact and near duplicates of the requested samples are pulled in, each with the pair that pulled it. What was
    forgotten is dropped from every later subset and left out of every later training, also when the data are ingested
    again or the same content comes back under another id; `tracesift requests` lists the requests. The same request
    again changes nothing. Of requested records outside train there is nothing to unlearn: they are deleted as records.

    Parameters
    ----------
    file
        A file with one sample id a line, or a .csv of requests with a column sample_id, owner, class, group or where,
        and owner_column, request_id and requested_by where you like; rows of one request_id are one request.
    where
        Forget what fits this SQL condition over scores, flags and the source's other columns, which are attributes:
        "aum < 0", or "attributes->>'owner' = 'alice'". Records outside train have no scores and no flags.
    class_
        Forget all of a class that is in train. What is outside train stays, to measure with.
    group
        Forget all records with this value in a column of the source, as COL=VALUE.
    owner
        Forget all records of this owner, also where none is in train.
    owner_column
        Where owners stand; the column owner, subject, contributor or user by default.
    name
        Name of the subset.
    append
        Join the requests before it under the same name: the new version forgets what they all ask for. Without it the
        request stands alone, and what was forgotten before is dropped.
    allow_empty_class
        Forget the last of a class or group, which is not asked for by its name.
    yes
        Forget more than half of the training samples.
    trial
        Make the subset for an experiment, and keep no deletion.
    purge
        Then remove the content of what this request forgets from the workspace, as `tracesift purge --request` does.
        The subset cannot be unlearned with after that: do it first.
    entity
        Column that says whose each sample is: also write a plan of batches, a module per entity.
    embedding
        The stored embedding to look for copies and neighbours in; the content by default.
    seed
        Seed of random choices.
    param
        A parameter of the selector forget_ready, as key=value: near_duplicate=0.99 is the cosine of a near copy, null
        none; by default auto, and dense, which is stricter, for tables.
    """
    from tracesift.flows.forgetting.deletion import Handling, handle, purge_answered
    from tracesift.flows.forgetting.requests import asked_for, entities
    from tracesift.flows.purging.purged import purges_of
    from tracesift.flows.work import existing
    from tracesift.selectors.contract import find

    if sum(given is not None for given in (file, where, class_, group, owner)) != 1:
        raise BadInput(
            "say what to forget in one way: FILE, --where SQL, --class LABEL, --group COL=VALUE or --owner VALUE"
        )
    if trial and purge:
        raise BadInput("--trial keeps no deletion, so there is nothing to purge; give one of them")
    if trial and append:
        raise BadInput("--trial keeps no deletion, so --append has nothing to join it to; give one of them")
    work = existing(common.workspace)
    checked_seed(seed)
    _check_name(name)
    chosen = settings(param)
    chosen = checked_params("forget_ready", find("forget_ready").function, chosen)
    if "forget" in chosen:
        raise BadInput("--param forget: the request says what to forget; leave it out")
    how = Handling(
        name=name, seed=seed, params=chosen, embedding=embedding, append=append,
        allow_empty_class=allow_empty_class, yes=yes, trial=trial, entity=entity,
    )  # fmt: skip
    with work.locked(), watched("forget"):
        if entity is not None:
            entities(work, entity)  # a column that is none is refused before anything is written
        purges_of(work)  # one that is lost is said before anything is carried out
        requests = asked_for(
            work, file=file, where=where, label=class_, group=group, owner=owner, owner_column=owner_column,
            trial=trial,
        )  # fmt: skip
        answers = handle(work, requests, how)
        purged: list[dict[str, Any]] = []
        if purge:
            answers, purged = purge_answered(work, answers)
    told = {"purged": purged} if purge else {}
    if common.json:
        print_json({**answers[-1], "requests": [answer["request"] for answer in answers], **told})
    else:
        for answer in answers:
            if answer["manifest"] is not None:  # else what there is to say was said
                _answer([answer, *answer["controls"]], common)
        for result in purged:
            tell_purge(result, common.workspace)
    return 0


def requests(*, common: Common = Common(), unlink: Annotated[bool, Repeated] = False) -> int:
    """List the deletion requests of the workspace: when, of what kind, how many samples, and which subset answers them.

    Parameters
    ----------
    unlink
        Delete the keys and the keyed hashes by which forgotten and purged samples are recognised. Nobody can be told
        from them any more, and nothing keeps these samples from returning: delete them in the source first.
    """
    from tracesift.flows.forgetting.deletion import told_requests
    from tracesift.flows.work import existing

    work = existing(common.workspace)
    if unlink:
        from tracesift.flows.purging.purged import unlink_purged

        with work.locked():
            unlink_purged(work)
            work.catalog.unlink_forgotten()
    rows = told_requests(work)
    if common.json:
        print_json(rows)
    elif rows:
        shown = [name for name in SHOWN_OF_REQUESTS if name != "num_gone" or any(row[name] for row in rows)]
        print_table([{name: row[name] for name in shown} for row in rows], title="Deletion requests")
    else:
        print("no deletion was requested")
    return 0


def advise(*, common: Common = Common(), keep: Annotated[tuple[float, ...], Repeated] = ()) -> int:
    """Say which selector `auto` takes at which size and why, and what every other was worth where it was measured.

    Parameters
    ----------
    keep
        Share of the training samples to keep; may be given several times. 0.7, 0.5, 0.3, 0.2 and 0.1 by default.
    """
    from tracesift.flows.selecting.advise import SHARES
    from tracesift.flows.selecting.advise import advise as advised
    from tracesift.flows.work import existing

    known = advised(existing(common.workspace), keep or SHARES)
    if common.json:
        print_json(known)
    else:
        _tell_advice(known)
    return 0


def _tell_advice(known: dict[str, Any]) -> None:
    """Print advice: what is known, the choice per share, what to expect, and where that was measured."""
    out, data, setting = console(), known["dataset"], known["setting"]
    flagged = data["samples"] - data["unflagged"]
    wrong = (
        f"{data['noise']:.1%} of the labels wrong"
        if data["noise"] >= 0.0005
        else "less than 0.1% of them wrong"
    )
    if not data["noise"]:
        wrong = "no label known to be wrong" if data["judged"] else "nobody looked for wrong labels yet"
    elif data["doubted"]:
        wrong = f"up to {wrong}, unless it is the classes that overlap"
    else:
        wrong = f"about {wrong}" + (", which training sets apart" if data["apart"] else "")
    out.print(
        f"{data['name']}: {data['samples']:,} training samples, {data['classes']} classes, the largest "
        f"{data['imbalance']:.3g} times the smallest; {wrong}; {flagged:,} are "
        "flagged, and come in where more are to be kept than the others",
        soft_wrap=True,
    )
    print_table(
        [
            {"keep": f"{row['keep']:.0%}", "auto takes": _with_params(row), "because": row["because"]}
            for row in known["choices"]
        ],
        title="\nWhat `--selector auto` takes",
        widest=300,
    )
    anchor = known["everything"]
    print_table(_expected_rows(known["expected"]), title="\nWhat to expect of each: " + (
        "points of accuracy above as many random samples" if anchor is None
        else "accuracy in %, and points above as many random samples"
    ))  # fmt: skip
    out.print(
        f"Measured on {setting['about']}: {setting['samples']:,} samples, {setting['classes']} classes, model "
        f"{setting['model']}, {setting['steps']} steps, {setting['seeds']} seeds (docs/benchmarks.md). "
        + (
            ""
            if anchor is None
            else f"The accuracy is what each retained there, times {anchor['accuracy']:.1%}, that of training on "
            f"everything here ({anchor['of']}). "
        )
        + "'auto, there' is what the rules took there, which may be another selector than here. "
        "Other data may order them otherwise: `tracesift select` some and `tracesift evaluate` them here.",
        soft_wrap=True,
    )
    if known["here"]:
        print_table(known["here"], title="\nMeasured in this workspace (test accuracy)")


def _with_params(row: dict[str, Any]) -> str:
    """Return a choice as it would be typed."""
    return " ".join([row["selector"], *(f"{key}={value}" for key, value in row["params"].items())])


def _expected_rows(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return a row per selector and a column per share, in the order of their mean."""
    shares = sorted({row["keep"] for row in rows}, reverse=True)
    by_name: dict[str, dict[float, dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["selector"], {})[row["keep"]] = row

    def told(row: dict[str, Any] | None) -> str:
        if row is None:
            return "–"
        points = f"{row['points']:+.1f}" + ("" if row["spread"] is None else f" ± {row['spread']:.1f}")
        return points if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} ({points})"

    best = sorted(by_name, key=lambda name: -sum(row["points"] for row in by_name[name].values()))
    return [
        {
            "selector": "auto, there" if name == AUTO else name,
            **{f"kept {share:.0%}": told(by_name[name].get(share)) for share in shares},
        }
        for name in best
    ]


def evaluate(
    *names: str,
    common: Common = Common(),
    training: Training = Training(),
    steps: Whole | None = None,
    unlearn: Annotated[tuple[str, ...], Repeated] = (),
    weights: Literal["manifest", "loreun"] = "manifest",
    param: Annotated[tuple[str, ...], Repeated] = (),
) -> int:
    """Retrain a fresh model on subsets and their controls, with the same number of steps and at least three seeds.

    Three seeds from --seed on are trained, more with --seeds above 3: fewer say nothing of the spread.

    With --unlearn, instead, the trust in unlearning is measured on forget-ready subsets: for each seed a model is
    trained on everything, two are retrained without the forget set, and each method makes the first forget; all are
    measured by what they know of the forgotten, the retained, the neighbours and the unseen, beside retraining.

    Parameters
    ----------
    names
        Subsets, with their controls and all training samples beside them; all alone for these alone, with no subset
        made. By default all subsets that were made; with --unlearn all that forget something.
    steps
        Optimiser steps of each training; by default as many as the recipe takes on all training samples.
    unlearn
        An unlearning method, or all; may be given several times. list shows them.
    weights
        How forgotten samples are weighed: as in the manifest, or loreun, more where the original's loss is smaller.
    param
        A setting of a method as METHOD.key=value, or loreun.tau=value; may be given several times.
    """
    from tracesift.flows.evaluate import cells, check_test, evaluate_cell
    from tracesift.flows.reporting.compared import compared
    from tracesift.flows.work import existing

    if "list" in unlearn:
        return _list_methods(common)
    work = existing(common.workspace)
    if steps is not None and steps < 1:
        raise BadInput(f"--steps {steps}: at least 1")
    if unlearn:
        if steps is not None:
            raise BadInput(f"--steps {steps}: with --unlearn the recipe decides; change it with --epochs")
        return _unlearn(work, names, training, unlearn, weights, param, common)
    if param or weights != "manifest":
        raise BadInput("--param and --weights are of unlearning methods; name one with --unlearn METHOD")
    check_test(work.trainable)
    with work.locked():
        for cell in cells(work, training, list(names) or None, steps=steps):
            evaluate_cell(work, training, cell)
        rows = compared(work)
    if common.json:
        print_json(rows)
    else:
        print_table(rows, title="Retrained on each subset (test accuracy, the same number of steps)")
    return 0


def _unlearn(
    work: Work,
    names: tuple[str, ...],
    training: Training,
    wanted: tuple[str, ...],
    weights: Literal["manifest", "loreun"],
    param: tuple[str, ...],
    common: Common,
) -> int:
    """Measure unlearning methods on subsets, and answer with a table for each."""
    from tracesift.flows.forgetting.unlearn import trials, tried, unlearn
    from tracesift.flows.reporting.unlearned import studies

    methods = tried(wanted, weights, param)
    with work.locked():
        subsets = trials(work, names)
        for subset in subsets:
            unlearn(work, training, subset, methods)
        found = studies(work, [subset["name"] for subset in subsets])
    if common.json:
        print_json(found)
    else:
        for study in found:
            _tell_study(study)
    return 0


def _tell_study(study: dict[str, Any]) -> None:
    """Print one study: its table, what failed, and what to look for."""
    from tracesift.flows.reporting.unlearned import COLUMNS, LOOK, shown, verdict

    out, counts = console(), study["counts"]
    print_table(
        shown(study),
        title=f"Unlearning {study['subset']}: {counts.get('forget', 0):,} forgotten, model {study['model']}, "
        f"{len(study['seeds'])} seeds, mean ± standard deviation; shares in %",
    )
    for row in study["rows"]:
        if row["failed"]:
            out.print(f"{row['name']}: {row['failed']}", soft_wrap=True)
    if not counts.get("holdout"):
        out.print("MIA, AUC, gap and ToW-MIA: no holdout, so nothing to tell members from", soft_wrap=True)
    used = {name for row in study["rows"] for name in row["measures"]}
    for name, title in COLUMNS.items():
        if name in used:
            out.print(f"{title}: {LOOK[name]}", soft_wrap=True)
    if said := verdict(study):
        out.print(said, soft_wrap=True)


def _list_methods(common: Common) -> int:
    """Print the unlearning methods with their settings."""
    from tracesift.pipelines.unlearners.contract import find, names

    facts = [find(name) for name in names()]
    if common.json:
        print_json(
            [
                {"name": one.name, "version": one.version, "settings": dict(one.defaults),
                 "reference": one.reference, "summary": one.summary}
                for one in facts
            ]
        )  # fmt: skip
    else:
        print_table(
            [
                {"method": one.name, "settings": ", ".join(f"{key}={value}" for key, value in one.defaults.items()),
                 "what it does": one.summary}
                for one in facts
            ],
            widest=300,
        )  # fmt: skip
    return 0


def _auto(
    work: Work, keep: float | int | None, params: dict[str, Any], source: str | None, embedding: str | None
) -> Choice:
    """Return what `auto` stands for."""
    from tracesift.flows.make_subset import decided, unscored
    from tracesift.selectors.contract import find

    if params:
        raise BadInput(f"--param: {AUTO} sets the parameters; name the selector to set them yourself")
    if keep is None:
        raise BadInput(f"{AUTO} needs a size: --keep 0.3 for a share, or --count 500")
    choice = decided(work, AUTO, keep, embedding)
    left = unscored(work, choice, keep)
    # What a subset relabelled has no score under its new label, and was found right: it is kept.
    if source is not None and "nulls" in find(choice.selector).defaults:
        left = {"nulls": "keep"}
    return replace(choice, params={**choice.params, **left})


def _check_name(name: str) -> None:
    """Refuse a subset's name that its own controls, or another's, would be called by, or all samples are."""
    from tracesift.flows.reporting.compared import EVERYTHING

    if name == EVERYTHING:
        raise BadInput(f"--name {name}: `evaluate` calls all training samples so; choose another")
    for ending in ("-random", "-random-balanced"):
        if name.endswith(ending):
            raise BadInput(f"--name {name}: names that end in {ending} belong to controls; choose another")


def _answer(made: list[dict[str, object]], common: Common) -> None:
    if common.json:
        print_json({**made[0], "controls": made[1:]})
    else:
        print_table(
            [
                {key: row.get(key) for key in ("name", "version", "selector", "total", *_roles(made))}
                for row in made
            ]
        )
        if made[0].get("told"):
            console().print(f"{made[0]['name']}: {made[0]['told']}", soft_wrap=True)
        print(made[0]["manifest"])


def _roles(made: list[dict[str, object]]) -> list[str]:
    from tracesift.catalog.schema import ROLES

    return [role for role in ROLES if any(role in row for row in made)]
