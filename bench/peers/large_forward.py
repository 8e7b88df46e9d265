"""Features of a large encoder in PyTorch: the peer of `bench/large.ts`.

Reads official names from a safetensors file that is mapped, not copied: the least time and memory that PyTorch can do with.
Attention is PyTorch's fused kernel. V-JEPA 2's rotary positions keep its tiled frequencies.
"""

import json
import mmap
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F


def weights(path):
    file = open(path, "rb")
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(data, dtype=torch.float32, offset=8 + size + begin, count=(end - begin) // 4)
        out[name] = flat.view(entry["shape"])
    return out


def rotary(m):
    """Cosines and sines [tokens, head width] of V-JEPA 2, frames slowest."""
    frames, side = m["frames"] // m["tubelet"], m["image"] // m["patch"]
    head = m["width"] // m["heads"]
    each = 2 * ((head // 3) // 2)
    ids = torch.arange(frames * side * side)
    places = [ids // (side * side), ids // side % side, ids % side]
    omega = 1.0 / 10000 ** (torch.arange(each // 2, dtype=torch.float64) / (each // 2))
    angle = torch.cat([(p[:, None].double() * omega).repeat(1, 2) for p in places], 1)
    angle = F.pad(angle, (0, head - 3 * each))
    return angle.cos().float(), angle.sin().float()


def turn(x, cos, sin):
    pairs = x.unflatten(-1, (-1, 2))
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
    return x * cos + turned * sin


def forward(x, w, m, positions):
    width, heads = m["width"], m["heads"]
    conv = F.conv2d if m["frames"] is None else F.conv3d
    stride = m["patch"] if m["frames"] is None else (m["tubelet"], m["patch"], m["patch"])
    x = conv(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride).flatten(2).transpose(1, 2)
    if m["frames"] is None:
        x = x + w["pos_embed"]
    for i in range(m["depth"]):
        p = f"blocks.{i}."
        linear = lambda y, name: F.linear(y, w[f"{p}{name}.weight"], w[f"{p}{name}.bias"])
        norm = lambda y, name: F.layer_norm(y, (width,), w[f"{p}{name}.weight"], w[f"{p}{name}.bias"], 1e-6)
        b, n, _ = x.shape
        q, k, v = linear(norm(x, "norm1"), "attn.qkv").view(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if positions:
            q, k = turn(q, *positions), turn(k, *positions)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width)
        x = x + linear(y, "attn.proj")
        x = x + linear(F.gelu(linear(norm(x, "norm2"), "mlp.fc1")), "mlp.fc2")
    return F.layer_norm(x, (width,), w["norm.weight"], w["norm.bias"], 1e-6)


def samples(count, m):
    side = m["image"]
    shape = (3, side, side) if m["frames"] is None else (3, m["frames"], side, side)
    i = np.arange(count * int(np.prod(shape)), dtype=np.int64)
    return torch.from_numpy((((i * 7919) % 2003) / 1001.5 - 1).astype(np.float32)).view(count, *shape)


@torch.inference_mode()
def main():
    path, options, batch, out = sys.argv[1:5]
    m = json.loads(options)
    torch.set_num_threads(m["threads"])
    w = weights(path)
    positions = rotary(m) if m["frames"] else None
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    forward(samples(1, m), w, m, positions).numpy().tofile(out)
    print(json.dumps({"ready": True, "ms": (time.perf_counter() - start) * 1000, "peakMb": peak(), "torch": torch.__version__}), flush=True)
    x = samples(int(batch), m)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("quit"):
            break
        ms = []
        for _ in range(request["steps"]):
            start = time.perf_counter()
            forward(x, w, m, positions)
            ms.append((time.perf_counter() - start) * 1000)
        print(json.dumps({"ms": ms, "peakMb": peak()}), flush=True)


main()
