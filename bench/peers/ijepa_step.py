"""One I-JEPA training step in PyTorch, timed: the peer of `npm run bench`.

Modules and step as in the paper and the released recipe (Assran et al. 2023): pre-norm ViT, explicit softmax attention,
target encoder on the whole image, context encoder on visible patches, predictor on four blocks, smooth L1, AdamW in four
groups, moving average.
"""

import copy
import json
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from serve import serve


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        attention = ((q @ k.transpose(-2, -1)) * (d // self.heads) ** -0.5).softmax(-1)
        x = x + self.proj((attention @ v).transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Encoder(nn.Module):
    def __init__(self, m):
        super().__init__()
        patches = (m["image"] // m["patch"]) ** 2
        self.patch = nn.Conv2d(m["channels"], m["width"], m["patch"], m["patch"])
        self.positions = nn.Parameter(torch.randn(1, patches, m["width"]) * 0.02, requires_grad=False)
        self.blocks = nn.ModuleList(Block(m["width"], m["heads"]) for _ in range(m["depth"]))
        self.norm = nn.LayerNorm(m["width"], eps=1e-6)

    def forward(self, x, index=None):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.positions
        if index is not None:
            x = select(x, index)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def select(x, index):
    return torch.gather(x, 1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


class Predictor(nn.Module):
    def __init__(self, m):
        super().__init__()
        width, patches = m["predictor"]["width"], (m["image"] // m["patch"]) ** 2
        self.embed, self.proj = nn.Linear(m["width"], width), nn.Linear(width, m["width"])
        self.mask = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, patches, width) * 0.02, requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, m["predictor"]["heads"]) for _ in range(m["predictor"]["depth"]))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x, context, targets):
        b, kept = context.shape
        x = self.embed(x) + select(self.positions.expand(b, -1, -1), context)
        asked = torch.cat([select(self.positions.expand(b, -1, -1), t) for t in targets]) + self.mask
        y = torch.cat([x.repeat(len(targets), 1, 1), asked], 1)
        for block in self.blocks:
            y = block(y)
        return self.proj(self.norm(y)[:, kept:])


def main():
    m = json.loads(sys.argv[1])
    compiled = len(sys.argv) > 2 and sys.argv[2] == "compile"
    torch.set_num_threads(m["threads"])
    torch.manual_seed(0)
    encoder, predictor = Encoder(m), Predictor(m)
    target = copy.deepcopy(encoder)
    for p in target.parameters():
        p.requires_grad = False
    patches = (m["image"] // m["patch"]) ** 2
    images = torch.randn(m["batch"], m["channels"], m["image"], m["image"])
    pick = lambda n: torch.stack([torch.randperm(patches)[:n].sort().values for _ in range(m["batch"])])
    context, targets = pick(m["context"]), [pick(m["hidden"]) for _ in range(m["blocks"])]
    named = [p for net in (encoder, predictor) for p in net.named_parameters() if p[1].requires_grad]
    exempt = lambda n, p: "bias" in n or p.ndim == 1
    groups = [
        {"params": [p for n, p in named if not exempt(n, p)], "weight_decay": 0.05},
        {"params": [p for n, p in named if exempt(n, p)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=bool(m.get("fused")))

    def loss_of(images, context, targets):
        with torch.no_grad():
            h = F.layer_norm(target(images), (m["width"],))
            h = torch.cat([select(h, t) for t in targets])
        return F.smooth_l1_loss(predictor(encoder(images, context), context, targets), h)

    loss_fn = torch.compile(loss_of) if compiled else loss_of

    def step():
        loss = loss_fn(images, context, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            online, follower = list(encoder.parameters()), list(target.parameters())
            torch._foreach_mul_(follower, 0.996)
            torch._foreach_add_(follower, online, alpha=0.004)
        return loss.item()

    serve(step)


main()
