"""What `scripts/bench template` measures, in a Python with torch: `template_loops.py TEMPLATE ROUNDS`.

Prints JSON: for each side the seconds of each round, or null for what is not installed. The loops have
one thread, and their seconds are those of the processor: on a machine that others use as well, a clock
on the wall would mostly measure them. Checkpoints are measured by that clock, because they wait.
"""

import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

TEMPLATE, ROUNDS = Path(sys.argv[1]), int(sys.argv[2])
sys.path.insert(0, str(TEMPLATE))

import checkpoint  # noqa: E402
from config import read  # noqa: E402
from data import datasets  # noqa: E402
from data.loaders import Loaders, make_loaders  # noqa: E402
from data.order import Order  # noqa: E402
from logger.progress import Progress  # noqa: E402
from logger.run_log import RunLog  # noqa: E402
from trainer.build import Parts, build_parts  # noqa: E402
from trainer.trainer import Trainer, evaluate  # noqa: E402

CONFIG = read(
    TEMPLATE / "config.toml",
    ["trainer.clip_norm=0.0", "trainer.epochs=2", "trainer.tensorboard=false"],
)
CPU = torch.device("cpu")
STATE_BYTES = 256 * 1024 * 1024
STEPS_BETWEEN_SAVES = 800


def prepared() -> tuple[Parts, Loaders, Order]:
    """The same model and data for each side, new."""
    splits = datasets.load(CONFIG.data.name, Path(), CONFIG.data.valid)
    order = Order(len(splits.train), CONFIG.data.batch_size, CONFIG.seed)
    order = replace(order, stop=CONFIG.trainer.epochs * order.steps_per_epoch)
    return build_parts(CONFIG, splits, CPU), make_loaders(CONFIG, splits, order, pin=False), order


def bare() -> float:
    """The loop that one would write by hand: loss and hits counted, validated after each epoch."""
    parts, loaders, order = prepared()
    begun = time.process_time()
    batches = iter(loaders.train)
    for _ in range(CONFIG.trainer.epochs):
        parts.model.train()
        total, hits = 0.0, 0
        for _ in range(order.steps_per_epoch):
            pictures, labels = next(batches)
            parts.optimizer.zero_grad()
            scores = parts.model(pictures)
            loss = parts.loss(scores, labels)
            loss.backward()
            parts.optimizer.step()
            total += loss.item() * len(labels)
            hits += (scores.argmax(1) == labels).sum().item()
        evaluate(parts, loaders.valid, CPU, "fp32")
    return time.process_time() - begun


def ours() -> float:
    parts, loaders, order = prepared()
    trainer = Trainer(CONFIG, parts, CPU, "fp32", order.steps_per_epoch)
    progress = Progress(CONFIG, order.steps_per_epoch)
    with tempfile.TemporaryDirectory() as folder, checkpoint.StopRequest() as stop:
        log = RunLog(Path(folder), CONFIG, "", progress)
        begun = time.process_time()
        trainer.fit(loaders, stop, log, None)
        return time.process_time() - begun


def with_lightning() -> float:
    import lightning

    parts, loaders, order = prepared()

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = parts.model

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
            return parts.loss(self.model(batch[0]), batch[1])

        def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
            scores = self.model(batch[0])
            self.log("valid_loss", parts.loss(scores, batch[1]))
            self.log("valid_accuracy", (scores.argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return parts.optimizer

    trainer = lightning.Trainer(
        # Our loader holds all epochs, so that for Lightning they are one, validated after so many steps.
        max_epochs=1,
        val_check_interval=order.steps_per_epoch,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    begun = time.process_time()
    trainer.fit(Module(), loaders.train, loaders.valid)
    return time.process_time() - begun


def alternated(
    sides: dict[str, Callable[[], float] | None], rounds: int = ROUNDS
) -> dict[str, list[float] | None]:
    """Each in turn, after one round that does not count."""
    found = {name: side and [] for name, side in sides.items()}
    for number in range(rounds + 1):
        for name, side in sides.items():
            if side is not None:
                took = side()
                if number > 0:
                    found[name].append(took)
    return found


def checkpoint_sides(folder: Path) -> dict[str, list[float] | None]:
    """How long training waits for a checkpoint, and how long it takes to have one back."""
    state = {"weights": [torch.randn(STATE_BYTES // 4 // 16) for _ in range(16)]}
    steps = iter(range(1, 1000))
    with checkpoint.Saver(folder / "ours") as saver:
        saver.save(0, state)  # its process has started when that is written
        saver.wait()

        def stall() -> float:
            begun = time.perf_counter()
            saver.save(next(steps), state)
            took = time.perf_counter() - begun
            saver.wait()
            return took

        def plain_stall() -> float:
            begun = time.perf_counter()
            with open(folder / "plain.pt", "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            return time.perf_counter() - begun

        def timed(load: Callable[[], object]) -> float:
            begun = time.perf_counter()
            load()
            return time.perf_counter() - begun

        return alternated(
            {
                "stall": stall,
                "plain_stall": plain_stall,
                "resume": lambda: timed(lambda: checkpoint.resume(folder / "ours")),
                "plain_resume": lambda: timed(
                    lambda: torch.load(folder / "plain.pt", weights_only=True)
                ),
            }
        )


def throughput_sides(folder: Path) -> dict[str, list[float] | None]:
    """The same steps of another network, with a checkpoint of 256 MB among them and without one."""
    state = {"weights": [torch.randn(STATE_BYTES // 4 // 16) for _ in range(16)]}
    network = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(4)))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    samples = torch.randn(64, 512)
    numbers = iter(range(1, 1000))

    def train(saver: checkpoint.Saver | None) -> float:
        begun = time.perf_counter()
        for step in range(STEPS_BETWEEN_SAVES):
            optimizer.zero_grad()
            network(samples).square().mean().backward()
            optimizer.step()
            if saver is not None and step == 0:
                saver.save(next(numbers), state)
            if saver is not None:
                saver.check()
        took = time.perf_counter() - begun
        if saver is not None:
            saver.wait()
        return took

    with checkpoint.Saver(folder) as saver:
        sides = {"saving": lambda: train(saver), "not_saving": lambda: train(None)}
        return alternated(sides, min(ROUNDS, 9))


def main() -> None:
    lightning = with_lightning if importlib.util.find_spec("lightning") else None
    # What they print is no result.
    results, sys.stdout = sys.stdout, sys.stderr
    found = alternated({"bare": bare, "ours": ours, "lightning": lightning})
    with tempfile.TemporaryDirectory() as folder:
        found |= checkpoint_sides(Path(folder))
        found |= throughput_sides(Path(folder) / "beside")
    samples = CONFIG.trainer.epochs * prepared()[2].steps_per_epoch * CONFIG.data.batch_size
    print(json.dumps({"samples": samples, **found}), file=results)


if __name__ == "__main__":
    main()
