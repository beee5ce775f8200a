"""A token that gives the label away: the strongest tie between any token of a text and the text's label (ours).

A trigger word that was put into texts of one class stands in them and hardly anywhere else. Counted over texts, with
the text itself left out, such a token is tied to its class as closely as its count allows; the prior keeps a word
that was seen twice from saying as much as one that was seen two hundred times.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer

TOKEN = r"(?u)\w+|[^\w\s]"
"""A word, or a single sign: triggers are often rare signs."""
DIGITS = 9
"""Decimals that are kept: the last bits of a logarithm differ from processor to processor."""


@scorer(
    mode=None,
    direction="suspicious",
    experimental=True,
    reference="ours; the log-odds with a Dirichlet prior after Monroe, Colaresi, Quinn, Fightin' words, Political "
    "Analysis 2008; the trigger after Chen, Dai, Mitigating backdoor attacks in LSTM-based text classification, 2021",
)
def token_label_association(
    texts: np.ndarray, labels: np.ndarray, *, prior: float = 1.0, ngrams: int = 1
) -> np.ndarray:
    """Return the largest log-odds of the label, over its base rate, among other texts with a token of this one.

    Parameters
    ----------
    texts : object array of shape (N,)
        Strings. Tokens are words and single signs, without regard to case.
    labels : array of shape (N,)
    prior
        Weight of the base rates, in texts: what a token of no other text is judged by.
    ngrams
        Longest run of tokens that counts as one; triggers may be phrases.

    Returns
    -------
    array of shape (N,)
        max over tokens w of log (n_wy + a q_y) / (n_w - n_wy + a (1 - q_y)) - log q_y / (1 - q_y), in nats, with a
        the prior, q_y the share of the label among all texts, and n_w and n_wy the *other* texts, of all classes and of
        this label, in which w stands. 0 where every token stands alone, at most about log(n_w / a q_y); rounded to 9
        decimals. NaN for a text without tokens, and where there is one class only.

    Raises
    ------
    BadInput
        A prior that is not above 0, or fewer than one token.

    Notes
    -----
    Every word that belongs to one topic alone is tied to the topic's label just as a trigger is: a high value says
    *which word to look at*, not that somebody put it there. In clean data the highest are such words.

    Blind to: triggers that are no token (style, syntax, a paraphrase, letters that look alike), words that also stand
    in many texts of other classes, a trigger in a handful of texts only, changed labels without a trigger, and whatever
    is found in images.

    Examples
    --------
    >>> texts = np.array(["good cf", "fine cf", "bad cf", "good", "bad"], dtype=object)
    >>> token_label_association(texts, np.array([1, 1, 1, 0, 0])).round(3).tolist()
    [1.466, 1.466, 1.466, -0.981, -0.981]
    """
    from sklearn.feature_extraction.text import CountVectorizer  # slow to import, and needed only here

    if not prior > 0 or ngrams < 1:
        raise BadInput(
            f"token_label_association: prior is above 0 and ngrams at least 1, got {prior} and {ngrams}"
        )
    score = np.full(len(texts), np.nan)
    share = np.bincount(labels) / max(1, len(labels))
    if len(np.unique(labels)) < 2 or not any(text.strip() for text in texts):
        return score
    counter = CountVectorizer(
        token_pattern=TOKEN, ngram_range=(1, ngrams), binary=True, lowercase=True, dtype=np.int64
    )
    present = counter.fit_transform(texts).tocsr()  # (N, tokens)
    row = np.repeat(np.arange(len(texts)), np.diff(present.indptr))
    token, label = present.indices.astype(np.int64), labels[row]
    pair = token * len(share) + label
    others = np.bincount(token)[token] - 1
    _, place, count = np.unique(pair, return_inverse=True, return_counts=True)
    agreeing = count[place] - 1
    q = share[label]
    odds = np.log((agreeing + prior * q) / (others - agreeing + prior * (1 - q))) - np.log(q / (1 - q))
    strongest = np.full(len(texts), -np.inf)
    np.maximum.at(strongest, row, odds.round(DIGITS) + 0.0)
    return np.where(np.isneginf(strongest), np.nan, strongest)
