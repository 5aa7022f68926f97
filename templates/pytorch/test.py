"""Measure a checkpoint on the test data, after its hashes were verified."""

import argparse
import sys
from pathlib import Path

import checkpoint
from config import Config, ConfigError
from data import datasets
from data.loaders import plain_loader
from trainer import hardware
from trainer.build import build_parts
from trainer.trainer import evaluate


def find(which: str, out: Path) -> Path:
    """The `latest` checkpoint of the run there, or the `best` if it watches something."""
    newest = checkpoint.latest(out / "checkpoints")
    if newest is None:
        raise ConfigError(f"there is no checkpoint in {out}: train first, or name another --out")
    best = checkpoint.load(newest, verified=True).get("best")
    return newest.with_name(f"step-{best['step']:06d}") if best and which == "best" else newest


def test(path: Path, device_name: str) -> dict[str, float]:
    """The means over the test data, by the configuration that is stored with the checkpoint."""
    state = checkpoint.load(path)
    try:
        config = Config.model_validate_json((path / "config.json").read_text(encoding="utf-8"))
        device = hardware.choose_device(device_name)
        splits = datasets.load(config.data.name, Path(config.data.root), config.data.valid)
        parts = build_parts(config, splits, device)
        parts.model.load_state_dict(state["model"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as exc:
        reason = str(exc).splitlines()[-1].strip()
        raise ConfigError(f"cannot use {path}: it is of another model ({reason})") from exc
    batches = plain_loader(config, splits.test)
    return evaluate(parts, batches, device, state["made_by"]["precision"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", "--resume", default="best", help="best, latest or a checkpoint")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="of the run")
    parser.add_argument("-d", "--device", default="auto", choices=["auto", "cuda", "cpu"])
    args = parser.parse_args()
    try:
        path = checkpoint.meant(args.resume)
        if args.resume in ("best", "latest"):
            path = find(args.resume, args.out)
        means = test(path, args.device)
    except (ConfigError, checkpoint.CheckpointError) as exc:
        print(f"test.py: {exc}", file=sys.stderr)
        return 2
    print(f"{path}: " + "  ".join(f"{name} {means[name]:.4f}" for name in means))
    return 0


if __name__ == "__main__":
    sys.exit(main())
