"""The command `goldfish`: which tokens of a subset's texts to leave out of the loss."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from tracesift.flows.options import Common, Whole, checked_seed


def goldfish(
    subset: str,
    /,
    *,
    common: Common = Common(),
    tokenizer: str,
    no_special_tokens: Annotated[bool, Parameter(negative="")] = False,
    k: Whole = 4,
    h: Whole = 13,
    rule: Annotated[Literal["hash", "static"], Parameter(negative="")] = "hash",
    start: Whole = 0,
    seed: Whole = 0,
) -> int:
    """Write which tokens of each text the loss leaves out, so that no passage is learned whole (goldfish loss).

    For every member of the subset's newest version that is trained on; in goldfish.parquet beside the manifest.json of
    that version, which a training loop reads (docs/manifests.md). Running the same again writes nothing.

    Parameters
    ----------
    subset
        A subset of the workspace, by its name, over a dataset of texts.
    tokenizer
        The tokenizer of the model to be trained: its name on the Hugging Face Hub, or a local folder.
    no_special_tokens
        Count only the tokens of the text itself, for a loop that adds those for beginning and end on its own.
    k
        One token in k is left out.
    h
        So many tokens before it decide whether a token is left out, by the hash rule.
    rule
        hash: the same tokens of a passage are left out wherever it stands. static: every k-th token of a text.
    start
        Where the static rule begins.
    seed
        Another seed leaves out other tokens, by the hash rule.
    """
    from tracesift.flows.commands.stages import answer
    from tracesift.flows.goldfish import goldfish as step
    from tracesift.flows.progress import say
    from tracesift.flows.work import existing

    work = existing(common.workspace)
    checked_seed(seed)
    with work.locked(catalog=False):
        made = step(
            work, subset, tokenizer=tokenizer, special_tokens=not no_special_tokens, k=k, h=h, rule=rule, start=start,
            seed=seed,
        )  # fmt: skip
    if common.json:
        answer(made, common)
        return 0
    answer(
        {name: made[name] for name in ("file", "members", "tokens", "masked")}
        | {"share": f"{made['share']:.1%}"},
        common,
    )
    if made["learned_whole"]:
        short = (
            f"only tokens behind the first {h} can be"
            if rule == "hash"
            else f"the first one would be token {start}"
        )
        say(f"{made['learned_whole']} of {made['members']} members have no token left out: {short}")
    if not made["written"]:
        say("made before with the same settings and tokenizer: nothing was written")
    return 0
