#!/usr/bin/env python3
"""Makes the numbers in pytorch.rs: losses, gradients and running statistics of PyTorch's own models in f64.

Element i of the parameter or buffer `name` is base + amplitude * sin(0.7 i + h), where h is the sum of the name's bytes,
base is 1 for one-dimensional weights and running variances and 0 for the rest, and amplitude is 1 / sqrt(elements of one
row), or 0.1 in one dimension. A checksum of tensors is the sum of element i times cos(0.3 i + h)."""
import math, sys
import torch, torch.nn as nn, torch.nn.functional as F, torchvision

class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.l1, self.l2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, d = x.shape
        split = lambda y: y.view(b, t, self.heads, d // self.heads).transpose(1, 2)
        q, k, v = map(split, self.qkv(self.l1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.l2(x)), approximate="tanh"))

class Gpt(nn.Module):
    def __init__(self, vocab, context, width, heads, layers):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)

    def forward(self, i):
        return self.head(self.norm(self.blocks(self.tok(i) + self.pos(torch.arange(i.shape[1])))))

class Scaling(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.scale

class Ntp(nn.Linear):
    def forward(self, x):
        return x @ self.weight.T / math.sqrt(self.in_features) + self.bias

def realmlp(widths, activation):
    layers = [Scaling(widths[0])]
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [Ntp(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])

def resnet(make, stem):
    m = make(num_classes=10)
    if stem == "small":
        m.conv1, m.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return m

def h(name): return sum(name.encode())
def wave(t, f, name): return f(torch.arange(t.numel(), dtype=torch.float64) * (0.7 if f is torch.sin else 0.3) + h(name))
def checksum(tensors): return sum((t.detach().flatten() * wave(t, torch.cos, n)).sum().item() for n, t in tensors)

def fill(model):
    for name, t in list(model.named_parameters()) + list(model.named_buffers()):
        if name.endswith("num_batches_tracked"): continue
        base = 1.0 if t.dim() == 1 and name.endswith(("weight", "running_var")) else 0.0
        amplitude = 0.1 if t.dim() == 1 else 1 / math.sqrt(t[0].numel())
        t.data = (base + amplitude * wave(t, torch.sin, name)).reshape(t.shape)

def report(label, model, x, y, smoothing=0.0):
    model = model.double(); fill(model)
    run = lambda: model(x)
    loss = lambda o, s=0.0: F.cross_entropy(o.reshape(-1, o.shape[-1]), y.reshape(-1), label_smoothing=s)
    model.eval(); o = run(); evaluated = loss(o).item()
    o = o.reshape(-1, o.shape[-1]); rank = (o > o.gather(1, y.reshape(-1, 1))).sum(1)
    hits = [(rank < k).sum().item() / (y.numel() // y.shape[0]) for k in (1, 5)]
    model.train(); trained = loss(run(), smoothing); trained.backward()
    grads = checksum([(n, p.grad) for n, p in model.named_parameters()])
    buffers = checksum([(n, b) for n, b in model.named_buffers() if not n.endswith("num_batches_tracked")])
    print(label, f"eval {evaluated!r} train {trained.item()!r} hits {hits} grads {grads!r} buffers {buffers!r}", flush=True)

def image(*dims): return torch.sin(torch.arange(math.prod(dims), dtype=torch.float64) * 0.9).reshape(dims)
def classes(n, k, *dims): return torch.tensor([(i * 5 + 2 + i // 3) % k for i in range(n)]).reshape(dims or (n,))

if __name__ == "__main__":
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    report("mlp", mlp, image(4, 1, 3, 3), classes(4, 3))
    features = torch.sin(torch.arange(24, dtype=torch.float64) * 0.9).reshape(4, 6)
    report("realmlp", realmlp([6, 5, 4, 3], nn.SELU), features, classes(4, 3), 0.1)
    report("realmlp of mish", realmlp([6, 5, 4, 3], nn.Mish), features, classes(4, 3))
    lenet = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    report("lenet", lenet, image(2, 1, 28, 28), classes(2, 10))
    tokens = torch.tensor([(i * i * 7 + i * 3) % 7 for i in range(15)]).reshape(3, 5)
    report("gpt", Gpt(7, 5, 8, 2, 2), tokens, classes(15, 7, 3, 5))
    layers = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.AvgPool2d(2, 2, 1), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 6), nn.GELU(), nn.Linear(6, 6))
    report("layers", layers, image(3, 2, 5, 5), classes(3, 6))
    report("resnet18", resnet(torchvision.models.resnet18, "small"), image(2, 3, 4, 4), classes(2, 10))
    if "--large" in sys.argv:
        report("resnet50", resnet(torchvision.models.resnet50, "imagenet"), image(2, 3, 32, 32), classes(2, 10))
