"""Does a set of images hold samples with a small label-specific signal? One verdict per dataset (ours).

The companion of `residual_shortcut`, which must not be thresholded without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracesift.scorers.contract import diagnostic
from tracesift.scorers.unlearnable.residual_analysis import residual_analysis


@diagnostic(
    version=6,
    mode=None,
    reference="ours; the premise (shortcuts are linearly separable) from Yu et al., KDD 2022",
)
def residual_verdict(
    images: NDArray[np.uint8], labels: NDArray[np.int64], *, smallest_class: int = 100
) -> dict[str, Any]:
    """Say whether part of the images carries a small label-specific signal.

    Poisoned: in one view the two groups of a class are on average at least 1.25 times as far apart as they would be
    if every class were one cloud, and their distance in the log-odds of the label is at least 1.7 times what it
    would be then, and the two factors multiply to 2.2 or more (impulse view: 6, 1.8 and 15); or one class alone
    reaches 1.35 times the first two conditions in a view by mean and in one by median. Where a twentieth of all pixels
    have flat surroundings, 2.35 takes the place of 1.7, and 2.1 that of 1.8. Suspect: 0.97 of the conditions are met.

    Poisoned, too: in one place, images of one class have a lone pixel of a full colour at least 12 deviations more
    often than four times the count of any place around it and of the other classes (suspect: 10). This is seen in all
    of the image, and also where all images of a class have the pixel.

    Not seen: any other signal in all images of a class (there are no two groups then) or hardly any, sample-wise
    noise that differs from image to image, and what lies outside the central window of 3,072 values (32 x 32 pixels in
    colour) of larger images; then the reason says so. Views in which more than one image in twenty is blank do not
    count: on a perfectly flat background any noise shows, and its outline is that of the object.

    Parameters
    ----------
    images : (N, H, W, C) uint8
        Grey levels over the full range 0 to 255.
    labels : (N,) int
        Class indices.
    smallest_class
        The median class must hold this many images, half as many of 3,000 in all, or the verdict is "cannot tell".

    Returns
    -------
    dict
        `verdict` ("clean", "suspect", "poisoned" or "cannot tell"), `reason`, `best_view`, and `views`: for each the
        `separation` and `gap` with those of clouds (`separation_of_clouds`, `gap_of_clouds`; None where the groups are
        so near that no reference was needed) and what was needed, whether it `fires` (or is `near`), the share of
        `blank` images, and `strong_classes`, the class indices that fire alone. `untied_classes`, where the verdict is
        "poisoned": the class indices whose upper group carries the label no more than one of clouds would, in the view
        that sets it furthest apart; their two groups have another reason. `lone_pixels`: a row for the clearest
        of each class that has one, with `class` (index), `row`, `column`, `colour`, its `holders` among `of_class`
        images, the `expected` count, and whether it `fires`; then `best_view` is "lone_pixels".

    References
    ----------
    Yu, Zhang, Chen, Yin and Liu, "Availability Attacks Create Shortcuts", KDD 2022, for the premise.

    Examples
    --------
    >>> import numpy as np
    >>> residual_verdict(np.zeros((5, 8, 8, 1), dtype=np.uint8), np.array([0, 0, 0, 1, 1]))["verdict"]
    'cannot tell'
    """
    return residual_analysis(images, labels, smallest_class=smallest_class).verdict
