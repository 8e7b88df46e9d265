"""One action of the reference planner of Two Rooms in PyTorch, timed: the peer of `bench/planning.ts`.

The cross-entropy method on the published world model (EB-JEPA, arXiv 2602.03604): an IMPALA encoder, a GRU and a layer norm.
`again` encodes the picture for every sample of every iteration, as the reference does; otherwise it is encoded once. Weights,
pictures and draws are read from files, the plan is written to one.
"""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from serve import serve


def floats(path, shape):
    return torch.from_numpy(np.fromfile(path, dtype=np.float32)).view(*shape)


def weights(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            out[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32).view(entry["shape"])
    return out


class Model:
    def __init__(self, w, blocks):
        self.w, self.blocks = w, blocks
        self.stacks = sum(name.endswith("initial_conv.weight") for name in w)
        self.gru = [w[f"predictor.rnn.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]

    def norm(self, x):
        w = self.w
        return F.layer_norm(x, x.shape[-1:], w["encoder.final_ln.weight"], w["encoder.final_ln.bias"], 1e-5)

    def encode(self, x):
        w = self.w
        conv = lambda y, name: F.conv2d(y, w[f"encoder.{name}.weight"], w[f"encoder.{name}.bias"], padding=1)
        for i in range(self.stacks):
            x = F.max_pool2d(conv(x, f"stack_blocks.{i}.initial_conv"), 3, 2, 1)
            for b in range(self.blocks):
                name = f"stack_blocks.{i}.blocks.{b}"
                x = F.relu(conv(F.relu(conv(x, f"{name}.conv1")), f"{name}.conv2") + x)
        x = F.linear(F.relu(x).flatten(1), w["encoder.mlp.weight"], w["encoder.mlp.bias"])
        return self.norm(x)

    def step(self, state, action):
        return self.norm(torch.gru_cell(action, state, *self.gru))


@torch.inference_mode()
def main():
    m = json.loads(sys.argv[1])
    torch.set_num_threads(m["threads"])
    model = Model(weights(m["weights"]), m["blocks"])
    iterations, samples, horizon, numbers = m["plans"]
    pictures = floats(m["pictures"], (2, *m["observation"]))
    noise = floats(m["noise"], m["plans"])

    def plan():
        now, goal = pictures[:1], model.encode(pictures[1:])
        start = None if m["again"] else model.encode(now).expand(samples, -1)
        mean, std = torch.zeros(horizon, numbers), torch.full((horizon, numbers), m["std"])
        for i in range(iterations):
            plans = mean + std * noise[i]
            length = plans.norm(dim=-1, keepdim=True)
            plans = plans * (length.clamp(max=m["limit"]) / (length + 1e-6))
            state = model.encode(now.expand(samples, -1, -1, -1)) if m["again"] else start
            cost = (state - goal).square().mean(1)
            for t in range(horizon):
                state = model.step(state, plans[:, t])
                cost = cost + (state - goal).square().mean(1)
            elites = plans[cost.topk(m["elites"], largest=False).indices]
            mean, std = elites.mean(0), elites.std(0)
        mean.numpy().tofile(m["out"])

    serve(torch.inference_mode()(plan))


main()
