"""One step of the quickstart recipe in PyTorch, timed: the peer of `npm run bench quickstart`.

A conv net over two views of every image, a projector, a predictor that is told the change of view, variance and covariance
terms (Bardes et al. 2022), AdamW in two groups. Channels-last memory, as convolutions are fastest that way.
"""

import json
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from serve import serve


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.conv, self.mix = ChannelNorm(width), nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.mix(F.relu(self.conv(self.norm(x))))


class Encoder(nn.Module):
    def __init__(self, m):
        super().__init__()
        w, size = m["widths"], m["image"]
        self.stem = nn.Conv2d(m["channels"], w[0], 5, 2, 2)
        stages = []
        for stage in range(2):
            residuals = [Residual(w[stage + 1]) for _ in range(m["blocks"][stage])]
            stages += [nn.Conv2d(w[stage], w[stage + 1], 3, 2, 1), *residuals, ChannelNorm(w[stage + 1]), nn.ReLU()]
        self.stages = nn.Sequential(*stages)
        for _ in range(3):
            size = (size + 1) // 2
        self.head = nn.Linear(w[2] * size * size, m["width"])

    def forward(self, x):
        return self.head(self.stages(F.relu(self.stem(x))).flatten(1))


def mlp(*widths):
    layers = [[nn.Linear(a, b), nn.ReLU()] for a, b in zip(widths, widths[1:])]
    return nn.Sequential(*[layer for pair in layers for layer in pair][:-1])


def spread(z):
    z = z - z.mean(0)
    covariance = z.T @ z / (len(z) - 1)
    variance = F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()
    return variance, (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


def main():
    m = json.loads(sys.argv[1])
    compiled = len(sys.argv) > 2 and sys.argv[2] == "compile"
    torch.set_num_threads(m["threads"])
    torch.manual_seed(0)
    z = m["projector"][-1]
    encoder = Encoder(m).to(memory_format=torch.channels_last)
    projector = mlp(m["width"], *m["projector"])
    predictor = mlp(z + m["parameters"], *m["predictor"], z)
    batch = m["batch"]
    images = torch.randn(2 * batch, m["channels"], m["image"], m["image"]).contiguous(memory_format=torch.channels_last)
    change = torch.randn(batch, m["parameters"])
    parameters = [p for net in (encoder, projector, predictor) for p in net.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.02},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.99), fused=bool(m.get("fused")))

    def loss_of(images, change):
        first, second = projector(encoder(images)).chunk(2)
        to_second = first + predictor(torch.cat([first, change], 1))
        to_first = second + predictor(torch.cat([second, -change], 1))
        energy = (F.mse_loss(to_second, second) + F.mse_loss(to_first, first)) / 2
        (v1, c1), (v2, c2) = spread(first), spread(second)
        return 25 * energy + 25 * (v1 + v2) / 2 + (c1 + c2)

    loss_fn = torch.compile(loss_of) if compiled else loss_of

    def step():
        loss = loss_fn(images, change)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    serve(step)


main()
