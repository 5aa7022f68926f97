"""Train the network of a configuration; KEY=VALUE changes one of its keys: optimizer.lr=0.01."""

import argparse
import contextlib
import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import checkpoint
from config import Config, ConfigError, check_same_run, read
from data import datasets, shards
from data.loaders import make_loaders
from data.order import Order
from logger.progress import Progress
from logger.run_log import RunLog
from trainer import hardware, processes
from trainer.build import build_parts
from trainer.trainer import Trainer, TrainingError, evaluate

HERE = Path(__file__).parent
SHORT = {  # options for what is changed most
    "--epochs": "trainer.epochs",
    "--lr": "optimizer.lr",
    "--batch-size": "data.batch_size",
    "--seed": "seed",
    "--device": "device",
    "-d": "device",
}


def train(config: Config, out: Path, resume: str | None) -> int:
    """The whole run, in its order; returns the exit status. `resume` is a path, `auto` or None."""
    # Hardware
    hardware.make_deterministic(config.trainer.deterministic)
    device, why = hardware.choose_device(config.device)
    say(f"device: {hardware.name_of(device)} ({why})")
    precision, why = hardware.choose_precision(config.trainer.precision, device)
    say(f"precision: {precision} ({why})")

    with processes.joined(device):
        # Data
        with processes.first_before_others():
            if config.data.shards:
                shards.copy(Path(config.data.shards), Path(config.data.root))
            splits = datasets.load(config.data.name, Path(config.data.root), config.data.valid)
        share = {"rank": processes.RANK, "world": processes.WORLD}
        order = Order(len(splits.train), config.data.batch_size, config.seed, **share)

        # Model, loss, optimizer, scheduler, metrics
        parts = build_parts(config, splits, device)
        trainer = Trainer(config, parts, device, precision, order.steps_per_epoch)

        # Resume: nothing, or all that the next step depends on
        folder = out / "checkpoints"
        metrics = go_on(trainer, folder, resume)

        # Train; of several processes only the first writes
        order = replace(order, start=trainer.step, stop=trainer.last_step)
        loaders = make_loaders(config, splits, order, pin=device.type == "cuda")
        with checkpoint.StopRequest() as stop, contextlib.ExitStack() as stack:
            log = saver = None
            if processes.RANK == 0:
                log, saver = map(stack.enter_context, writers(out, trainer, metrics))
            signal = trainer.fit(loaders, stop, log, saver)
        if signal:
            say(f"stopped after step {trainer.step}; go on with --resume auto", file=sys.stderr)
            return 128 + signal

        # Test: the best weights, which may not be the last
        best = trainer.best["step"] if trainer.best else trainer.step
        if best != trainer.step:
            parts.model.load_state_dict(checkpoint.load(folder / f"step-{best:06d}")["model"])
        means = evaluate(parts, loaders.test, device, precision)
        say(f"test of step {best}: " + "  ".join(f"{name} {means[name]:.4f}" for name in means))

    # Look
    if log is not None and config.trainer.plots:
        try:
            from logger import plots
        except ImportError:
            say("no curves.png and predictions.png: they need matplotlib", file=sys.stderr)
            return 0
        marked = best if trainer.best else None
        plots.curves(log.rows(), config.name, marked, out / "curves.png")
        plots.predictions(parts.model, splits.test, device, out / "predictions.png")
        say(f"look at {out / 'curves.png'} and {out / 'predictions.png'}")
    return 0


def say(*words: object, **options: Any) -> None:
    if processes.RANK == 0:
        print(*words, **options)


def go_on(trainer: Trainer, folder: Path, resume: str | None) -> str:
    """Put the trainer where the checkpoint is that is meant; returns the metrics from before it.

    Refuses to mix a run with an earlier one in its folder.
    """
    auto = resume == "auto"
    path = checkpoint.latest(folder) if auto else Path(resume) if resume else None
    metrics = restore(trainer, path, checkpoint.load(path, verified=auto)) if path else ""
    done = trainer.step if path else -1
    newer = [found for step, found in checkpoint.checkpoints(folder) if step > done]
    if newer and not auto:
        raise ConfigError(
            f"{newer[-1]} is of an earlier run: add --resume auto, or choose another --out"
        )
    return metrics


def restore(trainer: Trainer, path: Path, state: dict[str, Any]) -> str:
    """Put the trainer into the state of the checkpoint at `path`; returns its metrics."""
    try:
        check_same_run(trainer.config, (path / "config.json").read_text(encoding="utf-8"))
        change = trainer.load_state(state)
        metrics = (path / "metrics.jsonl").read_text(encoding="utf-8")
        made_by = json.loads((path / checkpoint.MANIFEST).read_bytes())
    except ConfigError as exc:
        raise ConfigError(f"cannot resume {path}: {exc}") from exc
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as exc:
        reason = str(exc).splitlines()[-1].strip()
        raise ConfigError(f"cannot resume {path}: it is of another model ({reason})") from exc
    if trainer.step > trainer.last_step:
        epochs = trainer.config.trainer.epochs
        raise ConfigError(f"cannot resume {path}: its run is beyond {epochs} epochs already")
    for key, now in (("device", hardware.name_of(trainer.device)), ("torch", torch.__version__)):
        if made_by.get(key) != now:
            change = f"its {key} was {made_by.get(key)}, and now it is {now}"
    say(f"resumed {path}: {trainer.step} steps are done")
    if change:
        say(f"not bit for bit the run that it was: {change}")
    return metrics


def writers(out: Path, trainer: Trainer, metrics: str) -> tuple[RunLog, checkpoint.Saver]:
    """What writes the metrics, and what writes the checkpoints."""
    config, made_by = trainer.config, hardware.name_of(trainer.device)
    about = {"attempt": trainer.attempt, "device": made_by, "code": checkpoint.code_hash(HERE)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(config.to_json(), encoding="utf-8")
        log = RunLog(out, config, metrics, Progress(config, trainer.steps_per_epoch))
    except OSError as exc:
        raise ConfigError(f"cannot write to {out}: {exc.strerror}") from exc
    return log, checkpoint.Saver(out / "checkpoints", keep=config.trainer.keep, about=about)


# --- The command line ------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise ConfigError(message)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, allow_abbrev=False)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="of the configuration")
    parser.add_argument("-c", "--config", type=Path, default=HERE / "config.toml")
    parser.add_argument(
        "-r", "--resume", metavar="PATH|auto", help="a checkpoint; auto: the newest that verifies"
    )
    parser.add_argument("--out", type=Path, help="where results go; default: runs/<name>")
    for option, key in SHORT.items():
        parser.add_argument(option, dest=key, metavar="VALUE", help=f"short for {key}=VALUE")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        args = parse(arguments)
        short = {key: vars(args)[key] for key in SHORT.values()}
        changes = [f"{key}={value}" for key, value in short.items() if value is not None]
        config = read(args.config, [*args.changes, *changes])
        return train(config, args.out or Path("runs", config.name), args.resume)
    except (ConfigError, checkpoint.CheckpointError, TrainingError) as exc:
        print(f"train.py: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, ConfigError) else 1
    except RuntimeError as exc:
        if not hardware.is_out_of_memory(exc):
            raise
        print(f"train.py: too little memory: {smaller(config)}", file=sys.stderr)
        return 1


def smaller(config: Config) -> str:
    """What to try when the memory is too small."""
    batch, parts = config.data.batch_size, config.trainer.accumulate * processes.WORLD
    if half := batch // parts // 2 * parts:
        same = f", or trainer.accumulate={2 * config.trainer.accumulate} for the same result"
        return f"try data.batch_size={half}{'' if batch % (2 * parts) else same}"
    return "try a smaller model, because a part of the batch is one sample already"


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # Each line at once, into a pipe or a file as well.
    try:
        status = main()
    except Exception:  # noqa: BLE001 - A bug, or another process has gone.
        traceback.print_exc()
        status = 1
    processes.leave(status)
