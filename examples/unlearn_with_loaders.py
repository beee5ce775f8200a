"""Gradient difference with weights, by a loop of one's own: python examples/unlearn_with_loaders.py MANIFEST [SOURCE].

Trains a small model on all of a forget-ready subset of images, then climbs the loss of what is to be forgotten, up to
that of guessing, while it descends that of what must survive. It shows the batches, and is no recommended method.
"""

import math
import sys

import torch
from torch.nn.functional import cross_entropy

from tracesift.pipelines.subset import load_manifest

subset = load_manifest(sys.argv[1])
dataset = subset.opened(sys.argv[2] if len(sys.argv) > 2 else subset.manifest.dataset.source)


def as_channels(image):
    grey_or_colour = torch.tensor(image).float() / 255
    return grey_or_colour[None] if grey_or_colour.ndim == 2 else grey_or_colour.movedim(2, 0)


def weighted(batch):
    return (
        cross_entropy(model(batch["inputs"]), batch["labels"], reduction="none") * batch["weights"]
    ).mean()


def accuracy(name):
    with torch.no_grad():
        held = [(model(step[name]["inputs"]).argmax(1) == step[name]["labels"]) for step in once]
    return f"{torch.cat(held).float().mean():.3f}"


def steps(loader, epochs, loss, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in (step for _ in range(epochs) for step in loader):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()


torch.manual_seed(0)
once = list(subset.loaders(dataset, forget=64, retain=64, plan="cyclic", transform=as_channels))
model = torch.nn.Sequential(
    torch.nn.LazyConv2d(32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
    torch.nn.LazyConv2d(64, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveMaxPool2d(4),
    torch.nn.Flatten(), torch.nn.LazyLinear(dataset.num_classes),
)  # fmt: skip
steps(once, 20, lambda step: weighted(step["forget"]) + weighted(step["retain"]), lr=2e-3)
print("trained:   forget", accuracy("forget"), "retain", accuracy("retain"))
paired = subset.loaders(dataset, forget=16, retain=64, plan="paired", transform=as_channels)
guessing = math.log(dataset.num_classes)
steps(
    paired, 10, lambda step: weighted(step["retain"]) - weighted(step["forget"]).clamp(max=guessing), lr=5e-4
)
print("unlearned: forget", accuracy("forget"), "retain", accuracy("retain"))
