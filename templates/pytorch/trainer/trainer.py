"""The loop: four things in each step; at the end of each epoch a look at what was learned."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

import checkpoint
from config import Config
from data.loaders import Batch
from logger.progress import Progress
from logger.run_log import RunLog
from model.metrics import Meter
from trainer.evaluate import evaluate
from trainer.hardware import autocast
from trainer.parts import Parts
from trainer.processes import Processes


class TrainingError(Exception):
    """The training cannot go on; the message is one sentence."""


class Trainer:
    """Trains until the last epoch, or until nothing gets better; stops when it is told to.

    All that a next step depends on is in `state()`, or a function of the configuration and the step.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        device: torch.device,
        precision: str,
        processes: Processes,
        steps_per_epoch: int,
    ) -> None:
        self.config = config
        self.parts = parts
        self.device = device
        self.processes = processes
        self.steps_per_epoch = steps_per_epoch
        self.last_step = config.trainer.epochs * steps_per_epoch
        self.network = parts.model
        if config.trainer.compile:
            parts.model.compile()  # in place: the names of the weights stay
        if processes.world > 1:
            self.network = DistributedDataParallel(parts.model)
        self.precision = precision
        # fp16 has few small numbers: the loss is scaled up, the gradients down again.
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.meter = Meter(parts.metrics, device)
        self.step = 0
        self.attempt = 1
        self.best: dict[str, float] | None = None  # step and value
        self.epochs_since_best = 0

    # --- The loop ----------------------------------------------------------------------------------

    def fit(
        self,
        train: DataLoader[Batch],
        valid: DataLoader[Batch],
        stop: checkpoint.StopRequest,
        log: RunLog | None,
        saver: checkpoint.Saver | None,
    ) -> int | None:
        """Train on; the signal that stopped it, or None when it has come to its end.

        Only the first process has a `log` and a `saver`.
        """
        options = self.config.trainer
        progress = Progress(self.last_step, self.config.data.batch_size)
        batches = iter(train)
        self.parts.model.train()
        signal = None
        while self.step < self.last_step and not self.is_stale():
            try:
                loss = self.train_step(batches)
            except RuntimeError as exc:
                if is_out_of_memory(exc):
                    raise self.too_large() from exc
                raise
            self.step += 1
            lr = self.parts.optimizer.param_groups[0]["lr"]
            if log is not None:
                progress.step(self.step, loss, lr)
                if self.step % options.log_every == 0:
                    log.write(step=self.step, loss=loss, lr=lr)
            epoch_ends = self.step % self.steps_per_epoch == 0
            if epoch_ends:
                self.end_epoch(valid, log, progress)
            signal = self.processes.any(stop.signal, self.device)
            by_step = options.save_every and self.step % options.save_every == 0
            if epoch_ends or by_step or signal:
                self.save(saver, log, wait=bool(epoch_ends or signal))
            elif saver is not None:
                saver.check()
            if signal:
                break
        # Before the processes part: PyTorch waits for ever for a group that this still holds.
        self.network = self.parts.model
        return signal

    def train_step(self, batches: Iterator[Batch]) -> float:
        """One update of the weights, from one batch in `accumulate` parts; the loss of the last part.

        Four things make a step of training; all others are about size, precision and safety.
        """
        parts, model = self.config.trainer.accumulate, self.parts.model
        # 1. Forget the gradients of the step before.
        self.parts.optimizer.zero_grad()
        for part in range(1, parts + 1):
            pictures, labels = next(batches).to(self.device)
            with self.gradients_are_exchanged(part == parts):
                # 2. Forward: what the network says, and how wrong that is.
                with autocast(self.device, self.precision):
                    scores = self.network(pictures)
                    loss = self.parts.loss(scores, labels)
                value = self.checked(loss)
                # 3. Backward: how each weight would have to change. Gradients of parts add up.
                self.scaler.scale(loss / parts).backward()
            self.meter.add(loss.detach(), scores.detach(), labels)
        if self.config.trainer.clip_norm:
            self.scaler.unscale_(self.parts.optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), self.config.trainer.clip_norm)
        # 4. Step: change the weights. Without fp16 the scaler does nothing but pass it on.
        self.scaler.step(self.parts.optimizer)
        self.scaler.update()
        return value

    def checked(self, loss: Tensor) -> float:
        """The loss as a number; one that is none must never reach the weights."""
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss of step {self.step + 1} is {value};"
                f" the weights are those of step {self.step}."
                f" Try a smaller optimizer.lr, or trainer.clip_norm"
            )
        return value

    def too_large(self) -> TrainingError:
        half, more = self.config.data.batch_size // 2, 2 * self.config.trainer.accumulate
        return TrainingError(
            f"too little memory: try data.batch_size={half}, or trainer.accumulate={more}"
            " for the same result"
        )

    def gradients_are_exchanged(self, last: bool) -> AbstractContextManager[Any]:
        """Several processes exchange their gradients once a step, not for each part."""
        if last or not isinstance(self.network, DistributedDataParallel):
            return nullcontext()
        return self.network.no_sync()

    # --- The end of an epoch -------------------------------------------------------------------------

    def end_epoch(self, valid: DataLoader[Batch], log: RunLog | None, progress: Progress) -> None:
        """Measure, remember whether that is the best, and let the scheduler choose the next rate."""
        lr = self.parts.optimizer.param_groups[0]["lr"]
        row = named("train", self.meter.means(self.processes.total(self.meter.sums)))
        self.meter = Meter(self.parts.metrics, self.device)
        means = evaluate(self.parts, valid, self.device, self.precision, self.processes)
        self.parts.model.train()
        row |= named("valid", means)
        direction, _, watched = self.config.trainer.monitor.partition(" ")
        if direction != "off":
            self.compare(row[watched], better_is_more=direction == "max")
        if isinstance(self.parts.scheduler, ReduceLROnPlateau):
            self.parts.scheduler.step(row["valid_loss"])
        elif self.parts.scheduler is not None:
            self.parts.scheduler.step()
        if log is not None:
            epoch = self.step // self.steps_per_epoch
            log.write(step=self.step, epoch=epoch, **row, lr=lr)
            shown = ("train_loss", "valid_loss", *(f"valid_{name}" for name in self.parts.metrics))
            progress.say(
                f"epoch {epoch}/{self.config.trainer.epochs}  step {self.step}  "
                + "".join(f"{name} {row[name]:.4f}  " for name in shown)
                + f"{progress.samples_per_s():,.0f} samples/s"
            )

    def compare(self, value: float, *, better_is_more: bool) -> None:
        before = self.best["value"] if self.best else None
        if before is None or (value > before if better_is_more else value < before):
            self.best, self.epochs_since_best = {"step": self.step, "value": value}, 0
        else:
            self.epochs_since_best += 1

    def is_stale(self) -> bool:
        """Whether nothing got better for as many epochs as the configuration allows."""
        return 0 < self.config.trainer.early_stop <= self.epochs_since_best

    # --- Saving and going on -------------------------------------------------------------------------

    def save(self, saver: checkpoint.Saver | None, log: RunLog | None, *, wait: bool) -> None:
        """Write a checkpoint; without `wait`, none when the one before is still being written."""
        state = self.state()  # every process has a part in it
        if saver is not None and log is not None:
            texts = {"config.json": self.config.to_json(), "metrics.jsonl": log.text}
            best = [self.best["step"]] if self.best else []
            saver.save(self.step, state, wait=wait, texts=texts, keep_steps=best)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as `weights_only` can load it."""
        scheduler = self.parts.scheduler
        mine = {"random": checkpoint.random_state(self.device), "sums": self.meter.sums.cpu()}
        return {
            "model": self.parts.model.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "scheduler": scheduler.state_dict() if scheduler is not None else None,
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "attempt": self.attempt,
            "best": self.best,
            "epochs_since_best": self.epochs_since_best,
            "precision": self.precision,
            "processes": self.processes.gathered(mine),
        }

    def load_state(self, state: dict[str, Any]) -> str | None:
        """Go on from there; why that is not bit for bit the run that it was, or None when it is."""
        self.parts.model.load_state_dict(state["model"])
        self.parts.optimizer.load_state_dict(state["optimizer"])
        if self.parts.scheduler is not None:
            self.parts.scheduler.load_state_dict(state["scheduler"])
        self.step, self.attempt = state["step"], state["attempt"] + 1
        self.best, self.epochs_since_best = state["best"], state["epochs_since_best"]
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        saved = state["processes"]
        if len(saved) == self.processes.world:
            mine = saved[self.processes.rank]
            self.meter.sums.copy_(mine["sums"])
            checkpoint.restore_random_state(mine["random"], self.device)
        elif self.processes.rank == 0:
            self.meter.sums.copy_(sum(one["sums"] for one in saved))
        if len(saved) != self.processes.world:
            return f"it was trained by {len(saved)} processes, and now by {self.processes.world}"
        if state["precision"] != self.precision:
            return f"it was trained in {state['precision']}, and now in {self.precision}"
        return None


def named(part: str, means: dict[str, float]) -> dict[str, float]:
    return {f"{part}_{name}": value for name, value in means.items()}


def is_out_of_memory(exc: RuntimeError) -> bool:
    """GPUs have an exception for it, CPUs only a sentence."""
    return isinstance(exc, torch.OutOfMemoryError) or "can't allocate memory" in str(exc)
