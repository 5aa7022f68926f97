"""Train the network of a configuration; KEY=VALUE changes one of its keys: optimizer.lr=0.01."""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import checkpoint
from config import Config, ConfigError, check_same_run, read
from data import datasets, shards
from data.loaders import Batch, make_loaders
from data.order import Order
from logger.run_log import RunLog
from trainer import hardware
from trainer.evaluate import evaluate
from trainer.parts import build_parts
from trainer.processes import Processes
from trainer.trainer import Trainer, TrainingError

HERE = Path(__file__).parent
SHORT = {  # options for what is changed most
    "--epochs": "trainer.epochs",
    "--lr": "optimizer.lr",
    "--batch-size": "data.batch_size",
    "--seed": "seed",
    "--device": "device",
}


def train(config: Config, out: Path, resume: str | None, processes: Processes) -> int:
    """The whole run, in its order; returns the exit status. `resume` is a path, `auto` or None."""
    say = print if processes.rank == 0 else nothing

    # Hardware
    hardware.make_deterministic(config.trainer.deterministic)
    device, why = hardware.choose_device(config.device)
    say(f"device: {hardware.name_of(device)} ({why})")
    precision, why = hardware.choose_precision(config.trainer.precision, device)
    say(f"precision: {precision} ({why})")

    with processes.joined(device):
        # Data
        splits = processes.first_before_others(lambda: load_data(config))
        share = {
            "parts": config.trainer.accumulate,
            "rank": processes.rank,
            "world": processes.world,
        }
        order = Order(len(splits.train), config.data.batch_size, config.seed, **share)

        # Model, loss, optimizer, scheduler, metrics
        parts = build_parts(config, splits, device)
        trainer = Trainer(config, parts, device, precision, processes, order.steps_per_epoch)

        # Resume: nothing, or all that the next step depends on
        folder = out / "checkpoints"
        path = processes.from_first(lambda: find(folder, resume))
        metrics_before = go_on(trainer, path, say) if path is not None else ""

        # Train
        pin = device.type == "cuda"
        loaders = make_loaders(config, splits, order, trainer.step, trainer.last_step, pin=pin)
        with (
            checkpoint.StopRequest() as stop,
            written(out, trainer, metrics_before) as (log, saver),
        ):
            signal = trainer.fit(loaders.train, loaders.valid, stop, log, saver)
        if signal is not None:
            say(f"stopped after step {trainer.step}; go on with --resume auto", file=sys.stderr)
            return 128 + signal

        # Test: the best weights, which may not be the last
        best = trainer.best["step"] if trainer.best else trainer.step
        if best != trainer.step:
            parts.model.load_state_dict(checkpoint.load(folder / f"step-{best:06d}")["model"])
        means = evaluate(parts, loaders.test, device, precision, processes)
        say(f"test of step {best}: " + "  ".join(f"{name} {means[name]:.4f}" for name in means))

    # Look
    if log is not None and config.trainer.plots:
        draw(out, config.name, log, best, *predict(parts.model, loaders.test, device))
    return 0


def nothing(*_: object, **__: object) -> None:
    """What all processes but the first say."""


def load_data(config: Config) -> datasets.Splits:
    root = Path(config.data.root)
    if config.data.shards:
        shards.copy(Path(config.data.shards), root)
    return datasets.load(config.data.name, root, config.data.valid)


def find(folder: Path, resume: str | None) -> Path | None:
    """The checkpoint to go on from; refuses to mix a run with an earlier one in its folder."""
    try:
        if resume == "auto":
            return checkpoint.latest(folder)
        wanted = Path(resume) if resume else None
        step = checkpoint.load(wanted)["step"] if wanted else -1
    except checkpoint.CheckpointError as exc:
        raise ConfigError(str(exc)) from exc
    newer = [path for at, path in checkpoint.checkpoints(folder) if at > step]
    if newer:
        raise ConfigError(
            f"{newer[-1]} is of an earlier run: add --resume auto, or choose another --out"
        )
    return wanted


def go_on(trainer: Trainer, path: Path, say: Callable[..., None]) -> str:
    """Put the trainer where the checkpoint at `path` is; returns the metrics from before it."""
    state = checkpoint.load(path)
    try:
        check_same_run(trainer.config, (path / "config.json").read_text(encoding="utf-8"))
        change = trainer.load_state(state)
        metrics = (path / "metrics.jsonl").read_text(encoding="utf-8")
    except ConfigError as exc:
        raise ConfigError(f"cannot resume {path}: {exc}") from exc
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as exc:
        reason = str(exc).splitlines()[-1].strip()
        raise ConfigError(f"cannot resume {path}: it is of another model ({reason})") from exc
    if trainer.step > trainer.last_step:
        epochs = trainer.config.trainer.epochs
        raise ConfigError(f"cannot resume {path}: its run is beyond {epochs} epochs already")
    manifest = json.loads((path / checkpoint.MANIFEST).read_bytes())
    if manifest["device"] != hardware.name_of(trainer.device):
        change = f"it was trained on {manifest['device']}"
    elif manifest["torch"] != torch.__version__:
        change = f"it was trained by PyTorch {manifest['torch']}"
    say(f"resumed {path}: {trainer.step} steps are done")
    if change:
        say(f"not bit for bit the run that it was: {change}")
    return metrics


@contextmanager
def written(
    out: Path, trainer: Trainer, metrics_before: str
) -> Iterator[tuple[RunLog, checkpoint.Saver] | tuple[None, None]]:
    """Where the run is written to; of several processes only the first writes."""
    if trainer.processes.rank != 0:
        yield None, None
        return
    config = trainer.config
    about = {
        "attempt": trainer.attempt,
        "device": hardware.name_of(trainer.device),
        "code": checkpoint.code_hash(HERE),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(config.to_json(), encoding="utf-8")
        log = RunLog(out, metrics_before, tensorboard=config.trainer.tensorboard)
    except OSError as exc:
        raise ConfigError(f"cannot write to {out}: {exc.strerror}") from exc
    with (
        log,
        checkpoint.Saver(out / "checkpoints", keep=config.trainer.keep, about=about) as saver,
    ):
        yield log, saver


@torch.no_grad()
def predict(
    model: torch.nn.Module, loader: DataLoader[Batch], device: torch.device
) -> tuple[Batch, Tensor]:
    """The first test samples, and what the network takes them for."""
    batch = next(iter(loader))
    return batch, model(batch.to(device).pictures).argmax(1).cpu()


def draw(out: Path, name: str, log: RunLog, best: int, batch: Batch, predicted: Tensor) -> None:
    """curves.png and predictions.png, where matplotlib is installed."""
    try:
        from logger import plots
    except ImportError:
        print("no curves.png and predictions.png: they need matplotlib", file=sys.stderr)
        return
    plots.curves(log.rows(), name, best, out / "curves.png")
    plots.predictions(batch.pictures, batch.labels, predicted, out / "predictions.png")
    print(f"look at {out / 'curves.png'} and {out / 'predictions.png'}")


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
        flags = [option] if option != "--device" else ["-d", option]
        parser.add_argument(*flags, dest=key, metavar="VALUE", help=f"short for {key}=VALUE")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    processes = Processes()
    try:
        args = parse(arguments)
        short = [
            f"{key}={vars(args)[key]}" for key in SHORT.values() if vars(args)[key] is not None
        ]
        config = read(args.config, [*args.changes, *short])
        return train(config, args.out or Path("runs", config.name), args.resume, processes)
    except (ConfigError, checkpoint.CheckpointError, TrainingError) as exc:
        print(f"train.py: {exc}", file=sys.stderr)
        return processes.fail(2 if isinstance(exc, ConfigError) else 1)
    except Exception:  # noqa: BLE001 - A bug, or another process has gone.
        traceback.print_exc()
        return processes.fail(1)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # Each line at once, into a pipe or a file as well.
    sys.exit(main())
