"""The loop: four things in each step; at the end of each epoch a look at what was learned."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

import checkpoint
from config import Config
from data.loaders import Batch, Loaders
from logger.run_log import RunLog
from model.metrics import Meter
from trainer import processes
from trainer.build import Parts
from trainer.hardware import autocast


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
        steps_per_epoch: int,
    ) -> None:
        self.config = config
        self.parts = parts
        self.device = device
        self.precision = precision
        self.steps_per_epoch = steps_per_epoch
        self.last_step = config.trainer.epochs * steps_per_epoch
        if config.trainer.compile:
            parts.model.compile()  # in place: the names of the weights stay
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
        loaders: Loaders,
        stop: checkpoint.StopRequest,
        log: RunLog | None,
        saver: checkpoint.Saver | None,
    ) -> int:
        """Train on; returns the signal that stopped it, or 0 when it has come to its end.

        Only the first process has a `log` and a `saver`.
        """
        save_every = self.config.trainer.save_every
        model = self.parts.model.train()
        # Not kept: PyTorch waits for ever for processes that part while it is there.
        network = DistributedDataParallel(model) if processes.WORLD > 1 else model
        batches = iter(loaders.train)
        signal = 0
        while self.step < self.last_step and not self.is_stale() and not signal:
            loss = self.train_step(network, *next(batches))
            self.step += 1
            if log is not None:
                log.step(self.step, loss, self.parts.optimizer.param_groups[0]["lr"])
            epoch_ends = self.step % self.steps_per_epoch == 0
            if epoch_ends:
                self.end_epoch(loaders.valid, log)
            signal = processes.highest(stop.signal, self.device)
            if epoch_ends or signal:
                self.save(saver, log)
            elif save_every and self.step % save_every == 0:
                self.save(saver, log, wait=False)
            elif saver is not None:
                saver.check()
        return signal

    def train_step(self, network: nn.Module, pictures: Tensor, labels: Tensor) -> float:
        """One update of the weights, from one batch in `accumulate` parts; returns its loss.

        Four things make a step of training; all others are about size, precision and safety.
        """
        optimizer, parts = self.parts.optimizer, self.config.trainer.accumulate
        losses = []
        # 1. Forget the gradients of the step before.
        optimizer.zero_grad()
        for part in zip(pictures.chunk(parts), labels.chunk(parts), strict=True):
            x, y = (one.to(self.device, non_blocking=True) for one in part)
            # Several processes exchange their gradients with the last part, when all are added up.
            is_last = len(losses) == parts - 1 or processes.WORLD == 1
            with nullcontext() if is_last else network.no_sync():
                # 2. Forward: what the network says, and how wrong that is.
                with autocast(self.device, self.precision):
                    scores = network(x)
                    loss = self.parts.loss(scores, y)
                # 3. Backward: how each weight would have to change. Gradients of parts add up.
                self.scaler.scale(loss / parts).backward()
            self.meter.add(loss, scores, y)
            losses.append(loss.detach())
        value = losses[0].item() if parts == 1 else torch.stack(losses).mean().item()
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss of step {self.step + 1} is {value}; the weights are those of step"
                f" {self.step}. Try a smaller optimizer.lr, or trainer.clip_norm"
            )
        if self.config.trainer.clip_norm:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), self.config.trainer.clip_norm)
        # 4. Step: change the weights. Without fp16 the scaler does nothing but pass it on.
        self.scaler.step(optimizer)
        self.scaler.update()
        return value

    # --- The end of an epoch -------------------------------------------------------------------------

    def end_epoch(self, valid: DataLoader[Batch], log: RunLog | None) -> None:
        """Measure, remember whether that is the best, and let the scheduler choose the next rate."""
        lr, scheduler = self.parts.optimizer.param_groups[0]["lr"], self.parts.scheduler
        means = self.meter.means(processes.total(self.meter.count()))
        row = {f"train_{name}": mean for name, mean in means.items()}
        self.meter = Meter(self.parts.metrics, self.device)
        means = evaluate(self.parts, valid, self.device, self.precision)
        row |= {f"valid_{name}": mean for name, mean in means.items()}
        self.parts.model.train()
        direction, _, watched = self.config.trainer.monitor.partition(" ")
        if direction != "off":
            value, best = row[watched], self.best and self.best["value"]
            self.epochs_since_best += 1
            if best is None or (value > best if direction == "max" else value < best):
                self.best, self.epochs_since_best = {"step": self.step, "value": value}, 0
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(row["valid_loss"])
        elif scheduler is not None:
            scheduler.step()
        if log is not None:
            log.epoch(self.step, self.step // self.steps_per_epoch, row, lr)

    def is_stale(self) -> bool:
        """Whether nothing got better for as many epochs as the configuration allows."""
        return 0 < self.config.trainer.early_stop <= self.epochs_since_best

    # --- Saving and going on -------------------------------------------------------------------------

    def save(
        self, saver: checkpoint.Saver | None, log: RunLog | None, *, wait: bool = True
    ) -> None:
        """Write a checkpoint; without `wait`, none when the one before is still being written."""
        state = self.state()  # every process has a part in it
        if saver is not None and log is not None:
            texts = {"config.json": self.config.to_json(), "metrics.jsonl": log.text}
            best = [self.best["step"]] if self.best else []
            saver.save(self.step, state, wait=wait, texts=texts, keep_steps=best)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as `weights_only` can load it."""
        scheduler = self.parts.scheduler
        mine = {"random": checkpoint.random_state(self.device), "meter": self.meter.state()}
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
            "processes": processes.gathered(mine),
        }

    def load_state(self, state: dict[str, Any]) -> str | None:
        """Go on from there; why that is not bit for bit the run that it was, or None when it is."""
        self.parts.model.load_state_dict(state["model"])
        self.parts.optimizer.load_state_dict(state["optimizer"])
        if self.parts.scheduler is not None:
            self.parts.scheduler.load_state_dict(state["scheduler"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.attempt = state["step"], state["attempt"] + 1
        self.best, self.epochs_since_best = state["best"], state["epochs_since_best"]
        saved = state["processes"]
        if len(saved) != processes.WORLD:
            return f"it was trained by {len(saved)} processes, and now by {processes.WORLD}"
        self.meter.load_state(saved[processes.RANK]["meter"])
        checkpoint.restore_random_state(saved[processes.RANK]["random"], self.device)
        if state["precision"] != self.precision:
            return f"it was trained in {state['precision']}, and now in {self.precision}"
        return None


@torch.no_grad()
def evaluate(
    parts: Parts, loader: DataLoader[Batch], device: torch.device, precision: str
) -> dict[str, float]:
    """Loss and metrics over all that the loaders of all processes have, without learning."""
    parts.model.eval()
    meter = Meter(parts.metrics, device)
    for batch in loader:
        x, y = (one.to(device, non_blocking=True) for one in batch)
        with autocast(device, precision):
            scores = parts.model(x)
            loss = parts.loss(scores, y)
        meter.add(loss, scores, y)
    return meter.means(processes.total(meter.count()))
