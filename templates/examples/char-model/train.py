"""A small transformer that learns to write like a text, a character at a time."""

import argparse
import json
import math
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text", type=Path, nargs="?", default=Path(__file__), help="a file in UTF-8")
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--context", type=int, default=64, help="characters that it looks back")
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--save-every", type=int, default=100, help="steps")
parser.add_argument("--out", type=Path, default=Path("runs/char-model"))
parser.add_argument("--resume", help="a checkpoint, or auto for the newest in --out")
args = parser.parse_args()

# Data: each character is a number; the last tenth of the text is for validation.
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
text = args.text.read_text(encoding="utf-8")
alphabet = sorted(set(text))
number = {character: at for at, character in enumerate(alphabet)}
codes = torch.tensor([number[character] for character in text])
train, valid = codes.split([len(codes) * 9 // 10, len(codes) - len(codes) * 9 // 10])
if len(valid) <= args.context:
    parser.error(f"{args.text} is too short for a --context of {args.context}")


def batch(source: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Pieces of the text, and the same one character later; the same seed gives the same pieces."""
    random = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(source) - args.context, (args.batch_size,), generator=random)
    pieces = torch.stack([source[at : at + args.context + 1] for at in starts]).to(device)
    return pieces[:, :-1], pieces[:, 1:]


class Block(nn.Module):
    """Each character looks at those before it, then thinks alone."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.think_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        size, length, width = x.shape
        parts = self.look(self.norm(x)).view(size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(size, length, width))
        return x + self.think(self.think_norm(x))


class CharModel(nn.Module):
    """Numbers of characters in, scores for the next one out."""

    def __init__(self, characters: int, context: int, width: int, layers: int) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(characters, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)), nn.LayerNorm(width))
        self.head = nn.Linear(width, characters)

    def forward(self, codes: Tensor) -> Tensor:
        places = torch.arange(codes.shape[1], device=codes.device)
        return self.head(self.blocks(self.characters(codes) + self.places(places)))


# Model and optimizer
torch.manual_seed(args.seed)
model = CharModel(len(alphabet), args.context, args.width, args.layers).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

# Resume: there is no dropout, and a batch depends on its step alone, so this is all there is
checkpoints = args.out / "checkpoints"
checkpoints.mkdir(parents=True, exist_ok=True)
path, done = args.resume, 0
if args.resume == "auto":
    path = max(checkpoints.glob("step-*.pt"), default=None)
if path:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    done = saved["step"]
    print(f"resumed {path}: {done} steps are done", flush=True)


def loss_on(pieces: tuple[Tensor, Tensor]) -> Tensor:
    codes, following = pieces
    return F.cross_entropy(model(codes).flatten(0, 1), following.flatten())


# Training
for step in range(done + 1, args.steps + 1):
    optimizer.zero_grad()
    loss = loss_on(batch(train, args.seed + step))
    loss.backward()
    optimizer.step()
    if step % args.save_every and step != args.steps:
        continue
    with torch.no_grad():
        valid_loss = loss_on(batch(valid, args.seed)).item()
    guess = math.exp(valid_loss)
    print(
        f"step {step}  loss {loss.item():.4f}  valid {valid_loss:.4f}  1 in {guess:.1f}", flush=True
    )
    row = {"step": step, "total_steps": args.steps, "loss": loss.item(), "valid_loss": valid_loss}
    with open(args.out / "metrics.jsonl", "a") as file:
        print(json.dumps(row), file=file)
    final = checkpoints / f"step-{step:06d}.pt"
    with open(staging := final.with_suffix(".tmp"), "wb") as file:
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, file
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, final)

# What it writes
codes = torch.tensor([[number[text[0]]]], device=device)
with torch.no_grad():
    for _ in range(200):
        likely = model(codes[:, -args.context :])[:, -1].softmax(-1)
        codes = torch.cat([codes, torch.multinomial(likely, 1)], dim=1)
print("".join(alphabet[code] for code in codes[0].tolist()))
