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


def as_vector(image):
    return torch.tensor(image).flatten().float() / 255


def weighted(batch):
    return (
        cross_entropy(model(batch["inputs"]), batch["labels"], reduction="none") * batch["weights"]
    ).mean()


def accuracy(name):
    with torch.no_grad():
        held = [(model(step[name]["inputs"]).argmax(1) == step[name]["labels"]) for step in once]
    return f"{torch.cat(held).float().mean():.3f}"


def steps(loader, epochs, loss, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for step in (step for _ in range(epochs) for step in loader):
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()


torch.manual_seed(0)
once = list(subset.loaders(dataset, forget=64, retain=64, plan="cyclic", transform=as_vector))
model = torch.nn.Sequential(
    torch.nn.LazyLinear(64), torch.nn.ReLU(), torch.nn.Linear(64, dataset.num_classes)
)
steps(once, 20, lambda step: weighted(step["forget"]) + weighted(step["retain"]), lr=0.5)
print("trained:   forget", accuracy("forget"), "retain", accuracy("retain"))
paired = subset.loaders(dataset, forget=16, retain=64, plan="paired", transform=as_vector)
guessing = math.log(dataset.num_classes)
steps(
    paired, 10, lambda step: weighted(step["retain"]) - weighted(step["forget"]).clamp(max=guessing), lr=0.1
)
print("unlearned: forget", accuracy("forget"), "retain", accuracy("retain"))
