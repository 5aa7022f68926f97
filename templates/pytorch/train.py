"""Train the network of a configuration; KEY=VALUE changes one of its keys: optimizer.lr=0.01."""

import argparse
import contextlib
import importlib.util
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import checkpoint
from config import Config, ConfigError, check_same_run, read
from data import datasets, shards
from data.loaders import plain_loader, train_loader
from data.order import Order
from logger.run_log import RunLog
from trainer import hardware, processes
from trainer.build import build_parts
from trainer.processes import say
from trainer.trainer import Trainer, TrainingError, evaluate

HERE = Path(__file__).parent
SHORT = {  # options for what is changed most
    "--epochs": "trainer.epochs",
    "--lr": "optimizer.lr",
    "--batch-size": "data.batch_size",
    "--seed": "seed",
    "-d": "device",
}


def train(config: Config, out: Path, resume: str | None) -> int:
    """The whole run, in its order; returns the exit status. `resume` is a path, `auto` or None."""
    # Hardware
    hardware.make_deterministic(config.trainer.deterministic)
    device = hardware.choose_device(config.device)
    precision, why = hardware.choose_precision(config.trainer.precision, device)
    say(f"device: {hardware.name_of(device)}, precision: {precision} ({why})")

    with processes.joined(device):
        # Data
        with processes.first_before_others():
            if config.data.shards:
                shards.copy(Path(config.data.shards), Path(config.data.root))
            splits = datasets.load(config.data.name, Path(config.data.root), config.data.valid)
        order = Order(
            len(splits.train), config.data.batch_size, config.seed, processes.RANK, processes.WORLD
        )

        # Model, loss, optimizer, scheduler, metrics
        parts = build_parts(config, splits, device)
        trainer = Trainer(config, parts, device, precision, order.steps_per_epoch)

        # Resume: nothing, or all that the next step depends on
        folder = out / "checkpoints"
        metrics = go_on(trainer, folder, resume)

        # Train; of several processes only the first writes
        order = replace(order, start=trainer.step, stop=trainer.last_step)
        batches, valid = train_loader(config, splits, order), plain_loader(config, splits.valid)
        with checkpoint.Requests() as asked, contextlib.ExitStack() as stack:
            log = saver = None
            if processes.RANK == 0:
                log, saver = map(stack.enter_context, writers(out, trainer, metrics))
            stopped = trainer.fit(batches, valid, asked, log, saver)
        if stopped:
            say(f"stopped after step {trainer.step}; go on with --resume auto", file=sys.stderr)
            return 128 + (asked.stop or signal.SIGTERM)

        # Test: the best weights, which may not be the last, and may be on another machine
        best = trainer.best["step"] if trainer.best else trainer.step
        if (saved := folder / f"step-{best:06d}").is_dir():
            parts.model.load_state_dict(checkpoint.load(saved)["model"])
        else:
            best = trainer.step
        means = evaluate(parts, plain_loader(config, splits.test), device, precision)
        say(f"test of step {best}: " + "  ".join(f"{name} {means[name]:.4f}" for name in means))

    # Look
    if log is not None and config.trainer.plots and importlib.util.find_spec("matplotlib"):
        from logger import plots

        plots.curves(out, best if trainer.best else None)
        plots.predictions(out, parts.model, splits.test, device)
        say(f"look at {out / 'curves.png'} and {out / 'predictions.png'}")
    return 0


def go_on(trainer: Trainer, folder: Path, resume: str | None) -> str:
    """Put the trainer where the checkpoint is that is meant; returns the metrics from before it.

    Refuses to mix a run with an earlier one in its folder.
    """
    if resume is None:
        if earlier := checkpoint.checkpoints(folder):
            raise ConfigError(
                f"{earlier[-1][1]} is of an earlier run: add --resume auto, or choose another --out"
            )
        return ""
    path = checkpoint.latest(folder) if resume == "auto" else checkpoint.meant(resume)
    if path is None:
        return ""
    state = checkpoint.load(path, verified=resume == "auto")
    try:
        check_same_run(trainer.config, (path / "config.json").read_text(encoding="utf-8"))
        changes = trainer.load_state(state)
        metrics = (path / "metrics.jsonl").read_text(encoding="utf-8")
    except ConfigError as exc:
        raise ConfigError(f"cannot resume {path}: {exc}") from exc
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as exc:
        reason = str(exc).splitlines()[-1].strip()
        raise ConfigError(f"cannot resume {path}: it is of another model ({reason})") from exc
    if trainer.step > trainer.last_step:
        epochs = trainer.options.epochs
        raise ConfigError(f"cannot resume {path}: its run is beyond {epochs} epochs already")
    say(f"resumed {path}: {trainer.step} steps are done")
    for change in changes:
        say(f"not bit for bit the run that it was: {change}")
    return metrics


def writers(out: Path, trainer: Trainer, metrics: str) -> tuple[RunLog, checkpoint.Saver]:
    """What writes the metrics, and what writes the checkpoints."""
    config = trainer.config
    about = {"attempt": trainer.attempt, "device": hardware.name_of(trainer.device)}
    about |= {"total_steps": trainer.last_step, "code": checkpoint.code_hash(HERE)}
    saver = checkpoint.Saver(out / "checkpoints", keep=config.trainer.keep, about=about)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(config.to_json(), encoding="utf-8")
        return RunLog(out, config, metrics, trainer.step, trainer.last_step), saver
    except OSError as exc:
        raise ConfigError(f"cannot write to {out}: {exc.strerror}") from exc


# --- The command line ------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise ConfigError(message)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    parser.add_argument("-c", "--config", type=Path, default=HERE / "config.toml")
    parser.add_argument("-r", "--resume", help="a checkpoint, or auto: the newest that verifies")
    parser.add_argument("--out", type=Path, help="where results go; default: runs/<name>")
    for option, key in SHORT.items():
        parser.add_argument(option, dest=key, metavar="VALUE", help=f"short for {key}=VALUE")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        args = parse(arguments)
        short = [f"{key}={vars(args)[key]}" for key in SHORT.values() if vars(args)[key]]
        config = read(args.config, [*args.changes, *short])
        return train(config, args.out or Path("runs", config.name), args.resume)
    except ConfigError as exc:
        say(f"train.py: {exc}", file=sys.stderr)  # Every process finds the same.
        processes.let_first_tell()
        return 2
    except (checkpoint.CheckpointError, TrainingError) as exc:
        print(f"train.py: {exc}", file=sys.stderr)
        return 1
    except RuntimeError as exc:
        # PyTorch has an exception for it; CPUs, cuBLAS and cuDNN have only words.
        words = re.search("can't allocate memory|_STATUS_ALLOC_FAILED", str(exc))
        if not isinstance(exc, torch.OutOfMemoryError) and words is None:
            raise
        parts = config.trainer.accumulate * processes.WORLD
        half = config.data.batch_size // 2 // parts * parts
        smaller = f"data.batch_size={half}" if half else "a smaller model"
        print(f"train.py: too little memory: try {smaller}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # Each line at once, into a pipe or a file as well.
    try:
        status = main()
    except Exception:  # noqa: BLE001 - A bug, or another process has gone.
        traceback.print_exc()
        status = 1
    processes.leave(status)
