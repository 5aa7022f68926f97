"""What `scripts/bench template` measures, in a Python with torch: `template_loops.py TEMPLATE ROUNDS`.

Prints JSON: for each place to compute on (the CPU; a GPU, in fp32 and in what suits it) the seconds of
each side and round, or null for what is not installed. The loops have one thread. Their seconds are
those of the processor and those on the wall: on a machine that others use as well the latter mostly
measure those. Checkpoints are measured on the wall, because they wait.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

TEMPLATE, ROUNDS = Path(sys.argv[1]).resolve(), int(sys.argv[2])
sys.path[:0] = [str(TEMPLATE), str(TEMPLATE / "tests")]

import checkpoint  # noqa: E402
from compare import differences  # noqa: E402
from config import read  # noqa: E402
from data import datasets  # noqa: E402
from data.loaders import Loader, plain_loader, train_loader  # noqa: E402
from data.order import Order  # noqa: E402
from logger.run_log import RunLog  # noqa: E402
from trainer import hardware  # noqa: E402
from trainer.build import Parts, build_parts  # noqa: E402
from trainer.trainer import Trainer, evaluate  # noqa: E402

# One metric, because the loop by hand counts one.
CONFIG = read(
    TEMPLATE / "config.toml",
    [
        "trainer.clip_norm=0.0",
        "trainer.epochs=2",
        "trainer.tensorboard=false",
        'metrics=["accuracy"]',
    ],
)
STATE_BYTES = 256 * 1024 * 1024
BLOCK_S = 0.5
BLOCKS = 20

Sides = dict[str, list[Any] | None]


class Place:
    """Where it is computed, and how precisely."""

    def __init__(self, device: torch.device, precision: str) -> None:
        self.device, self.precision = device, precision

    def prepared(self) -> tuple[Parts, Loader, Loader, Order]:
        """The same model and data for each side, new."""
        splits = datasets.load(CONFIG.data.name, Path(), CONFIG.data.valid)
        order = Order(len(splits.train), CONFIG.data.batch_size, CONFIG.seed)
        order = replace(order, stop=CONFIG.trainer.epochs * order.steps_per_epoch)
        parts = build_parts(CONFIG, splits, self.device)
        return parts, train_loader(CONFIG, splits, order), plain_loader(CONFIG, splits.valid), order

    def seconds(self, work: Callable[[], object]) -> tuple[float, float]:
        """Of the processor, and on the wall."""
        begun = time.process_time(), time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() - begun[0], time.perf_counter() - begun[1]

    def bare(self) -> tuple[float, float]:
        """The loop that one would write by hand: loss and hits counted, validated after each epoch."""
        parts, batches, valid, order = self.prepared()

        def work() -> None:
            scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
            loaded = iter(batches)
            for _ in range(CONFIG.trainer.epochs):
                parts.model.train()
                total, hits = 0.0, 0
                for _ in range(order.steps_per_epoch):
                    pictures, labels = (one.to(self.device) for one in next(loaded))
                    parts.optimizer.zero_grad()
                    with hardware.autocast(self.device, self.precision):
                        scores = parts.model(pictures)
                        loss = parts.loss(scores, labels)
                    scaler.scale(loss).backward()
                    scaler.step(parts.optimizer)
                    scaler.update()
                    total += loss.item() * len(labels)
                    hits += (scores.argmax(1) == labels).sum().item()
                evaluate(parts, valid, self.device, self.precision)

        return self.seconds(work)

    def ours(self) -> tuple[float, float]:
        parts, batches, valid, order = self.prepared()
        trainer = Trainer(CONFIG, parts, self.device, self.precision, order.steps_per_epoch)
        with (
            tempfile.TemporaryDirectory() as folder,
            checkpoint.Requests() as asked,
            RunLog(Path(folder), CONFIG, "", 0, order.stop) as log,
        ):
            return self.seconds(lambda: trainer.fit(batches, valid, asked, log, None))

    def with_lightning(self) -> tuple[float, float]:
        import lightning

        parts, batches, valid, order = self.prepared()

        class Module(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.model = parts.model

            def training_step(
                self, batch: tuple[torch.Tensor, torch.Tensor], _: int
            ) -> torch.Tensor:
                return parts.loss(self.model(batch[0]), batch[1])

            def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
                scores = self.model(batch[0])
                self.log("valid_loss", parts.loss(scores, batch[1]))
                self.log("valid_accuracy", (scores.argmax(1) == batch[1]).float().mean())

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return parts.optimizer

        trainer = lightning.Trainer(
            # Our loader holds all epochs: for Lightning they are one, validated after so many steps.
            max_epochs=1,
            val_check_interval=order.steps_per_epoch,
            accelerator="cpu" if self.device.type == "cpu" else "gpu",
            precision={"fp32": "32-true", "bf16": "bf16-mixed"}.get(self.precision, "16-mixed"),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        return self.seconds(lambda: trainer.fit(Module(), batches, valid))

    def loops(self) -> Sides:
        lightning = self.with_lightning if importlib.util.find_spec("lightning") else None
        return alternated({"bare": self.bare, "ours": self.ours, "lightning": lightning})

    def state(self) -> dict[str, Any]:
        tensors = [torch.randn(STATE_BYTES // 4 // 16, device=self.device) for _ in range(16)]
        return {"weights": tensors}

    def checkpoints(self, folder: Path) -> Sides:
        """How long training waits for a checkpoint, and how long it takes to have one back."""
        state = self.state()
        steps = iter(range(1, 1000))
        with checkpoint.Saver(folder / "ours") as saver:

            def stall() -> float:
                took = self.seconds(lambda: saver.save(next(steps), state))[1]
                saver.wait()
                return took

            def plain_stall() -> float:
                def save() -> None:
                    torch.save(state, folder / "plain.pt")
                    checkpoint.flush(folder / "plain.pt")

                return self.seconds(save)[1]

            def resume() -> float:
                return self.seconds(lambda: checkpoint.resume(folder / "ours"))[1]

            def plain_resume() -> float:
                path = folder / "plain.pt"
                return self.seconds(lambda: torch.load(path, "cpu", weights_only=True))[1]

            return alternated(
                {
                    "stall": stall,
                    "plain_stall": plain_stall,
                    "resume": resume,
                    "plain_resume": plain_resume,
                }
            )

    def throughput(self, folder: Path) -> Sides:
        """The same steps of another network, with a checkpoint of 256 MB among them and without one.

        In blocks that take turns, because what else the machine does changes within seconds; but a block
        without follows only when nothing is being written any more.
        """
        state = self.state()
        network = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(4)))
        network = network.to(self.device)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
        samples = torch.randn(64, 512, device=self.device)
        numbers = iter(range(1, 1000))
        saver = checkpoint.Saver(folder)

        def train(steps: int, number: int | None = None) -> float:
            def work() -> None:
                if number is not None:
                    saver.save(number, state)
                for _ in range(steps):
                    optimizer.zero_grad()
                    network(samples).square().mean().backward()
                    optimizer.step()
                    saver.check()

            return self.seconds(work)[1]

        train(100)
        steps = int(100 * BLOCK_S / train(100)) + 1
        found: dict[str, list[float]] = {"saving": [], "not_saving": []}
        with saver:
            for _ in range(ROUNDS):
                took = {"saving": 0.0, "not_saving": 0.0}
                owed = 0
                for block in range(BLOCKS):
                    took["saving"] += train(steps, next(numbers) if block == 0 else None)
                    owed += 1
                    while owed and saver.check():
                        took["not_saving"] += train(steps)
                        owed -= 1
                saver.wait()
                took["not_saving"] += sum(train(steps) for _ in range(owed))
                for side, seconds in took.items():
                    found[side].append(seconds)
        return dict(found)

    def exact_resume(self, folder: Path) -> Sides:
        """1 when a run that went on from its middle ends as the whole one, bit for bit."""
        whole, half = folder / "runs/whole", folder / "runs/half"
        options = [f"device={self.device.type}", f"trainer.precision={self.precision}"]
        options += ["trainer.epochs=3", "trainer.plots=false", "trainer.tensorboard=false"]

        def run(*arguments: str | Path) -> None:
            command = [sys.executable, TEMPLATE / "train.py", *options, *arguments]
            subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)

        run("--out", whole)
        middle = sorted((whole / "checkpoints").iterdir())[0]
        shutil.copytree(middle, half / "checkpoints" / middle.name)
        run("--out", half, "--resume", "auto")
        return {"equal": [float(differences(whole, half) == [])]}

    def measured(self) -> Sides:
        with tempfile.TemporaryDirectory() as folder:
            found = self.loops() | self.checkpoints(Path(folder))
            found |= self.throughput(Path(folder) / "beside")
            return found | self.exact_resume(Path(folder))


def alternated(sides: dict[str, Callable[[], Any] | None]) -> Sides:
    """Each in turn, after one round that does not count."""
    found: Sides = {name: side and [] for name, side in sides.items()}
    for number in range(ROUNDS + 1):
        for name, side in sides.items():
            if side is not None:
                took = side()
                if number > 0:
                    found[name].append(took)
    return found


def main() -> None:
    places = {"cpu": Place(torch.device("cpu"), "fp32")}
    if torch.cuda.is_available():
        gpu = hardware.choose_device("cuda")
        for precision in ("fp32", hardware.choose_precision("auto", gpu)[0]):
            places[f"{hardware.name_of(gpu)}, {precision}"] = Place(gpu, precision)
    # What they print is no result.
    results, sys.stdout = sys.stdout, sys.stderr
    found = {name: place.measured() for name, place in places.items()}
    print(json.dumps(found), file=results)


if __name__ == "__main__":
    main()
