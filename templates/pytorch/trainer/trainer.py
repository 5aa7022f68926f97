"""The loop: four things in each step; at the end of each epoch a look at what was learned."""

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau

import checkpoint
from config import Config
from data.loaders import Loader
from logger.run_log import RunLog
from model.metrics import Meter
from trainer import hardware, processes
from trainer.build import Parts


class TrainingError(Exception):
    """The training cannot go on; the message is one sentence."""


@dataclass
class Trainer:
    """Trains until the last epoch, or until nothing gets better; stops when it is told to.

    All that a next step depends on is in `state()`, or a function of the configuration and the step.
    """

    config: Config
    parts: Parts
    device: torch.device
    precision: str
    steps_per_epoch: int
    step: int = 0
    attempt: int = 1
    best: dict[str, float] | None = None  # step and value
    epochs_since_best: int = 0

    def __post_init__(self) -> None:
        self.options = self.config.trainer
        self.last_step = self.options.epochs * self.steps_per_epoch
        if self.options.compile:
            self.parts.model.compile()  # in place: the names of the weights stay
        # fp16 has few small numbers: the loss is scaled up, the gradients down again.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.meter = Meter(self.parts.metrics)

    # --- The loop ----------------------------------------------------------------------------------

    def fit(
        self,
        batches: Loader,
        valid: Loader,
        asked: checkpoint.Requests,
        log: RunLog | None,
        saver: checkpoint.Saver | None,
    ) -> bool:
        """Train on; returns whether it was asked to stop before its end.

        Only the first process has a `log` and a `saver`.
        """
        if self.is_stale():
            return False
        model = self.parts.model.train()
        # Not kept: PyTorch waits for ever for processes that part while it is there.
        network = DistributedDataParallel(model) if processes.WORLD > 1 else model
        for pictures, labels in batches:
            loss = self.train_step(network, pictures, labels)
            self.step += 1
            if log is not None:
                log.step(self.step, loss, self.lr)
            epoch_ends = self.step % self.steps_per_epoch == 0
            if epoch_ends:
                self.end_epoch(valid, log)
            # Asked of one process is asked of all, at the same step.
            stop, save = processes.total([asked.stop, asked.save])
            if epoch_ends or stop or save:
                self.save(saver, log)
                asked.save = False
            elif self.options.save_every and self.step % self.options.save_every == 0:
                self.save(saver, log, wait=False)
            elif saver is not None:
                saver.check()
            if stop or self.is_stale():
                return bool(stop)
        return False

    def train_step(self, network: nn.Module, pictures: Tensor, labels: Tensor) -> float:
        """One update of the weights, from one batch in `accumulate` parts; returns its loss.

        Four things make a step of training; all others are about size, precision and safety.
        """
        optimizer, parts = self.parts.optimizer, self.options.accumulate
        losses: list[float] = []
        # 1. Forget the gradients of the step before.
        optimizer.zero_grad()
        for part in zip(pictures.chunk(parts), labels.chunk(parts), strict=True):
            x, y = (one.to(self.device, non_blocking=True) for one in part)
            # Several processes exchange their gradients with the last part, when all are added up.
            is_last = len(losses) == parts - 1 or processes.WORLD == 1
            with nullcontext() if is_last else network.no_sync():
                # 2. Forward: what the network says, and how wrong that is.
                with hardware.autocast(self.device, self.precision):
                    scores = network(x)
                    loss = self.parts.loss(scores, y)
                # 3. Backward: how each weight would have to change. Gradients of parts add up.
                self.scaler.scale(loss / parts).backward()
            losses.append(self.meter.add(loss, scores, y))
        value = sum(losses) / parts
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss of step {self.step + 1} is {value}; the weights are those of step"
                f" {self.step}. Try a smaller optimizer.lr, or trainer.clip_norm"
            )
        if self.options.clip_norm:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), self.options.clip_norm)
        # 4. Step: change the weights. Without fp16 the scaler does nothing but pass it on.
        self.scaler.step(optimizer)
        self.scaler.update()
        return value

    @property
    def lr(self) -> float:
        return self.parts.optimizer.param_groups[0]["lr"]

    def is_stale(self) -> bool:
        """Whether nothing got better for as many epochs as the configuration allows."""
        return 0 < self.options.early_stop <= self.epochs_since_best

    def end_epoch(self, valid: Loader, log: RunLog | None) -> None:
        """Measure, remember whether that is the best, and let the scheduler choose the next rate."""
        means = {f"train_{name}": mean for name, mean in self.meter.means().items()}
        self.meter = Meter(self.parts.metrics)
        measured = evaluate(self.parts, valid, self.device, self.precision)
        means |= {f"valid_{name}": mean for name, mean in measured.items()}
        self.parts.model.train()
        if log is not None:
            log.epoch(self.step, self.step // self.steps_per_epoch, means, self.lr)
        direction, _, watched = self.options.monitor.partition(" ")
        if direction != "off":
            value, best = means[watched], self.best and self.best["value"]
            self.epochs_since_best += 1
            if best is None or (value > best if direction == "max" else value < best):
                self.best, self.epochs_since_best = {"step": self.step, "value": value}, 0
        if isinstance(self.parts.scheduler, ReduceLROnPlateau):
            self.parts.scheduler.step(means["valid_loss"])
        elif self.parts.scheduler is not None:
            self.parts.scheduler.step()

    # --- Saving and going on -------------------------------------------------------------------------

    def save(
        self, saver: checkpoint.Saver | None, log: RunLog | None, *, wait: bool = True
    ) -> None:
        """Write a checkpoint; without `wait`, none when the one before is still being written."""
        state = self.state()  # every process has a part in it
        if saver is not None and log is not None:
            texts = {"config.json": self.config.to_json(), "metrics.jsonl": log.text()}
            best = int(self.best["step"]) if self.best else None
            saver.save(self.step, state, wait=wait, texts=texts, best=best)

    def stateful(self) -> dict[str, Any]:
        """The parts that have a state which PyTorch can take and give."""
        named = {"model": self.parts.model, "optimizer": self.parts.optimizer}
        named |= {"scheduler": self.parts.scheduler, "scaler": self.scaler}
        return {name: part for name, part in named.items() if part is not None}

    def made_by(self) -> dict[str, Any]:
        """What the bits of a result depend on, beside the configuration."""
        made_by = {"device": hardware.name_of(self.device), "torch": str(torch.__version__)}
        return made_by | {"precision": self.precision, "number of processes": processes.WORLD}

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as `weights_only` can load it."""
        mine = {"random": checkpoint.random_state(self.device), "sums": self.meter.sums}
        state = {name: part.state_dict() for name, part in self.stateful().items()}
        state |= {"step": self.step, "attempt": self.attempt, "made_by": self.made_by()}
        state |= {"best": self.best, "epochs_since_best": self.epochs_since_best}
        return state | {"processes": processes.gathered(mine)}

    def load_state(self, state: dict[str, Any]) -> list[str]:
        """Go on from there; returns why that is not bit for bit the run that it was, if it is not."""
        for name, part in self.stateful().items():
            part.load_state_dict(state[name])
        self.step, self.attempt = state["step"], state["attempt"] + 1
        self.best, self.epochs_since_best = state["best"], state["epochs_since_best"]
        if len(state["processes"]) == processes.WORLD:
            mine = state["processes"][processes.RANK]
            self.meter.sums = mine["sums"]
            checkpoint.restore_random_state(mine["random"], self.device)
        pairs = zip(state["made_by"].items(), self.made_by().values(), strict=True)
        return [f"its {key} was {old} and is {now}" for (key, old), now in pairs if old != now]


@torch.no_grad()
def evaluate(
    parts: Parts, batches: Loader, device: torch.device, precision: str
) -> dict[str, float]:
    """Loss and metrics over all that the loaders of all processes have, without learning."""
    parts.model.eval()
    meter = Meter(parts.metrics)
    for batch in batches:
        x, y = (one.to(device, non_blocking=True) for one in batch)
        with hardware.autocast(device, precision):
            scores = parts.model(x)
            loss = parts.loss(scores, y)
        meter.add(loss, scores, y)
    return meter.means()
