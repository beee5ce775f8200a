"""What must hold for every selector there is; a new one is picked up by its file, with its own parameters in CALLS."""

import math
from typing import get_type_hints

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import ROLES, SIGNALS, BadInput, UnknownName
from tracesift.selectors.contract import columns_needed, find, names, select

CALLS = {
    "autocoreset": {},
    "beta_sampling": {},
    "bottom_k": {"score": "el2n"},
    "cal": {},
    "ccs": {},
    "class_forget_set": {"label": "b"},
    "cld_per_class": {},
    "craig": {},
    "d2_pruning": {},
    "deepfool": {},
    "denoise": {},
    "depoison": {},
    "dual": {},
    "easiest_forget_set": {},
    "entanglement_strata": {},
    "facility_location": {},
    "forget_ready": {"forget": ["s03", "s17", "s40"]},
    "glister": {},
    "gm_matching": {},
    "grad_match": {},
    "graph_cut": {},
    "group_forget_set": {"column": "split", "value": "val"},
    "herding": {},
    "infomax": {},
    "inverse": {"score": "el2n"},
    "k_center_greedy": {},
    "log_det": {},
    "memorization_strata": {},
    "moderate_ds": {},
    "mu_coreset": {},
    "offset_window": {"score": "el2n", "offset": 0.1},
    "random": {},
    "random_balanced": {},
    "random_forget_set": {},
    "removal_protocol": {"keep_lowest_n": 5, "remove_n": 20},
    "semdedup": {},
    "sharpness_partition": {},
    "snp_prune": {},
    "snp_search": {"clusters": 6},
    "ssl_prototypes": {},
    "top_k": {"score": "el2n"},
    "uncertainty": {},
    "worst_case_forget_set": {},
}
BUDGETED = [name for name in names() if find(name).budget]
SCORED = [
    name for name in BUDGETED if columns_needed(name, CALLS.get(name, {})) and "score" in find(name).defaults
]


def takes_embedding(name):
    return "embedding" in find(name).arrays + find(name).optional_arrays


def arrays_of(name, frame):
    """Return the arrays a selector cannot do without; a sample's row follows from its id and label alone."""
    ids = frame["sample_id"].to_list() if "sample_id" in frame.columns else [""] * frame.height
    labels = frame["label"].to_list() if "label" in frame.columns else [None] * frame.height
    sizes = {"T": 5, "M": 12, "K": 3, "D": 8}
    made = {}
    for signal in find(name).arrays:
        rows, *others = sorted(SIGNALS[signal].axes, key="NMTKD".index)
        shape = [sizes[axis] for axis in others]
        keys = ids if rows == "N" else [str(row) for row in range(sizes[rows])]
        seeds = [list(f"{signal} {key}".encode()) for key in keys]
        values = np.array([np.random.default_rng(seed).normal(size=shape) for seed in seeds])
        values = values.reshape(len(keys), *shape)
        if "probs" in signal:
            values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        if signal == "labels":
            values = np.array([ord(label[0]) - ord("a") if label else 0 for label in labels], dtype=int)
        if signal == "val_labels":
            values = np.arange(12) % 3
        made[signal] = np.abs(values).T if SIGNALS[signal].axes == "TN" else values
    return made


def call(name, frame, *, budget=0.3, seed=0, embedding=None, **params):
    known = CALLS.get(name, {})
    facts = find(name)
    if not facts.budget:
        budget = None
    return select(
        name,
        frame,
        budget=budget,
        seed=seed,
        embedding=embedding if takes_embedding(name) else None,
        arrays={
            key: array
            for key, array in arrays_of(name, frame).items()
            if key != "embedding" or embedding is None
        },
        **{**known, **params},
    )


def kept(result):
    """Return what was chosen: to be kept, or by a chooser of forget sets to be forgotten."""
    return set(result.filter(pl.col("role").is_in(["keep", "forget"]))["sample_id"])


def test_every_selector_is_found_by_its_file():
    assert set(CALLS) <= set(names())


@pytest.mark.parametrize("name", names())
def test_facts_are_complete(name):
    facts = find(name)
    assert facts.name == name
    assert facts.version >= 1
    assert facts.reference
    assert facts.summary.endswith(".")
    assert set(facts.columns) <= set(facts.defaults)
    assert not {"frame", "size", "seed", "embedding"} & set(facts.defaults)


@pytest.mark.parametrize("name", names())
def test_one_row_per_sample_sorted_with_role_weight_and_reason(name, frame, embedding):
    result = call(name, frame, embedding=embedding)
    assert result["sample_id"].to_list() == sorted(frame["sample_id"])
    assert result.columns[:4] == ["sample_id", "role", "weight", "reason"]
    assert result.schema["weight"] == pl.Float64
    assert set(result["role"]) <= set(ROLES)
    assert result["reason"].null_count() == 0
    assert result["reason"].str.len_chars().min() > 10
    assert result["weight"].is_finite().all()
    assert (result.filter(pl.col("role") == "drop")["weight"] == 0).all()
    assert (result.filter(pl.col("role") != "drop")["weight"] > 0).all()


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("budget", [1, 7, 30, 59, 60, 0.05, 0.29, 0.5, 1.0])
def test_size_is_exact(name, frame, budget):
    room = {"offset": 0} if name == "offset_window" else {}
    wanted = budget if isinstance(budget, int) else math.floor(budget * 60 + 0.5)
    if name == "sharpness_partition" and wanted > 30:
        with pytest.raises(BadInput, match="flat half has 30"):
            call(name, frame, budget=budget)
        return
    assert len(kept(call(name, frame, budget=budget, **room))) == wanted


@pytest.mark.parametrize("name", names())
def test_row_order_does_not_matter(name, frame, embedding):
    shuffle = np.random.default_rng(9).permutation(frame.height)
    there = call(name, frame, embedding=embedding)
    again = call(name, frame[shuffle], embedding=embedding[shuffle])
    assert there.equals(again)


@pytest.mark.parametrize("name", names())
def test_same_seed_same_result_and_inputs_untouched(name, frame, embedding):
    before, vectors = frame.clone(), embedding.copy()
    assert call(name, frame, seed=5, embedding=embedding).equals(
        call(name, frame, seed=5, embedding=embedding)
    )
    assert frame.equals(before)
    assert np.array_equal(embedding, vectors)


@pytest.mark.parametrize("name", BUDGETED)
def test_the_seed_matters_exactly_where_declared(name, frame):
    sets = {frozenset(kept(call(name, frame, seed=seed))) for seed in range(5)}
    assert (len(sets) > 1) == find(name).random


SIGNED = [
    "top_k",
    "bottom_k",
    "offset_window",
    "inverse",
    "cld_per_class",
    "worst_case_forget_set",
    "easiest_forget_set",
]
SIGNED += ["memorization_strata", "entanglement_strata", "sharpness_partition"]


@pytest.mark.parametrize("name", SIGNED)
def test_the_sign_of_the_score_matters(name, frame):
    column = columns_needed(name, CALLS.get(name, {}))[0]
    negated = frame.with_columns(-pl.col(column))
    assert kept(call(name, frame)) != kept(call(name, negated))


def test_the_sign_of_the_cutoff_matters(frame):
    negated = frame.with_columns(-pl.col("aum_prob_sum"))
    assert kept(call("ccs", frame, beta=0.5)) != kept(call("ccs", negated, beta=0.5))


@pytest.mark.parametrize("name", ["top_k", "bottom_k", "offset_window", "cld_per_class", "ccs"])
def test_differs_from_its_controls(name, frame):
    chosen = kept(call(name, frame))
    assert chosen != kept(call("random", frame))
    assert chosen != kept(call("random_balanced", frame))


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize(
    "budget", [True, False, 0, -1, 61, 0.0, -0.5, 1.5, 2.0, math.nan, math.inf, "0.5", None, 0.001, [3]]
)
def test_impossible_budgets_are_refused(name, frame, budget):
    with pytest.raises(BadInput, match="budget"):
        call(name, frame, budget=budget)


@pytest.mark.parametrize("name", [name for name in names() if name not in BUDGETED])
def test_selectors_that_decide_by_themselves_take_no_budget(name, frame):
    with pytest.raises(BadInput, match="decides by itself"):
        select(name, frame, budget=0.5, seed=0, **CALLS.get(name, {}))


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("seed", [None, True, 1.0, -1, "0"])
def test_impossible_seeds_are_refused(name, frame, seed):
    with pytest.raises(BadInput, match="seed"):
        call(name, frame, seed=seed)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("label"), "no column 'label'"),
        (lambda f: f.drop("sample_id"), "no column 'sample_id'"),
        (lambda f: pl.concat([f, f[:1]]), "repeated"),
        (lambda f: f.clear(), "no rows"),
        (lambda f: f.with_columns(pl.int_range(pl.len()).alias("sample_id")), "must be text"),
        (
            lambda f: f.with_columns(pl.when(pl.col("label") != "c").then("label")),
            "'label' is null for 6 of 60 samples",
        ),
    ],
)
def test_broken_frames_are_refused(name, frame, change, message):
    with pytest.raises(BadInput, match=message):
        call(name, change(frame))


@pytest.mark.parametrize("name", SCORED)
@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_scores_are_never_taken_as_numbers(name, frame, missing):
    column = columns_needed(name, CALLS.get(name, {}))[0]
    holes = (
        pl.when(pl.col("sample_id").is_in(["s01", "s02"])).then(pl.lit(missing, pl.Float64)).otherwise(column)
    )
    broken = frame.with_columns(holes.alias(column))
    with pytest.raises(BadInput, match=rf"'{column}' is missing \(null or NaN\) for 2 of 60 samples"):
        call(name, broken)
    if find(name).chooses == "forget":
        assert not {"s01", "s02"} & kept(call(name, broken, nulls="retain"))
        assert len(kept(call(name, broken, nulls="retain"))) == 18
        with pytest.raises(BadInput, match=r"58|29"):
            call(name, broken, budget=60, nulls="retain")
        return
    assert not {"s01", "s02"} & kept(call(name, broken, nulls="drop"))
    assert len(kept(call(name, broken, nulls="drop"))) == 18
    if name != "offset_window":
        assert {"s01", "s02"} <= kept(call(name, broken, nulls="keep"))
        assert len(kept(call(name, broken, nulls="keep"))) == 18
    with pytest.raises(BadInput, match=r"59|60"):
        call(name, broken, budget=60, nulls="drop")


@pytest.mark.parametrize("name", SCORED)
def test_an_absent_score_is_named(name, frame):
    with pytest.raises(BadInput, match="el2m"):
        call(name, frame, score="el2m")
    with pytest.raises(BadInput, match="not numbers"):
        call(name, frame, score="content_hash")


@pytest.mark.parametrize("name", names())
def test_unknown_parameters_are_refused_by_name(name, frame):
    with pytest.raises(BadInput, match="has no parameter 'secret'"):
        call(name, frame, secret=1)


@pytest.mark.parametrize("name", names())
def test_parameters_of_another_type_are_refused(name, frame, wrong_for):
    hints = get_type_hints(find(name).function)
    for key in find(name).defaults:
        for value in wrong_for(hints[key]):
            with pytest.raises(BadInput, match=f"^{name}: {key}=.* must be "):
                call(name, frame, **{key: value})


def test_unknown_selectors_are_refused_with_the_nearest_name(frame):
    with pytest.raises(UnknownName, match="did you mean 'top_k'"):
        select("topk", frame, budget=1, seed=0)


@pytest.mark.parametrize("name", [name for name in names() if not takes_embedding(name)])
def test_an_embedding_that_is_not_used_is_refused(name, frame, embedding):
    known = CALLS.get(name, {})
    with pytest.raises(BadInput, match="takes no embedding"):
        select(name, frame, budget=0.3 if find(name).budget else None, seed=0, embedding=embedding, **known)


@pytest.mark.parametrize("wrong", [np.zeros((59, 8)), np.zeros(60), np.full((60, 2), np.nan)])
def test_a_broken_embedding_is_refused(frame, wrong):
    with pytest.raises(BadInput, match="embedding"):
        call("forget_ready", frame, embedding=wrong)
