"""Reads the `config.json` of victoresque's pytorch-template, and says what became of each key."""

from typing import Any

KEYS = {
    "name": "name",
    "arch": "model",
    "loss": "loss",
    "metrics": "metrics",
    "optimizer": "optimizer",
    "lr_scheduler": "scheduler",
    "data_loader.type": "data.name",
    "data_loader.args.data_dir": "data.root",
    "data_loader.args.batch_size": "data.batch_size",
    "data_loader.args.validation_split": "data.valid",
    "data_loader.args.num_workers": "data.workers",
    "trainer.epochs": "trainer.epochs",
    "trainer.monitor": "trainer.monitor",
    "trainer.early_stop": "trainer.early_stop",
    "trainer.tensorboard": "trainer.tensorboard",
}
NOT_HERE = {
    "n_gpu": "torchrun --nproc-per-node N train.py uses N GPUs",
    "data_loader.args.shuffle": "training data is always shuffled",
    "trainer.save_dir": "results are in runs/<name>, or where --out says",
    "trainer.save_period": "every epoch is saved; trainer.keep says how many stay",
    "trainer.verbosity": "there is one way to log",
}
NAMES = {
    "MnistDataLoader": "mnist",
    "MnistModel": "ConvNet",
    "nll_loss": "CrossEntropyLoss",  # because ConvNet ends without a softmax
    "top_k_acc": "top3_accuracy",
}


def is_old(values: dict[str, Any]) -> bool:
    return "arch" in values and "data_loader" in values


def translate(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same configuration as we write it, and a line for each key that is another one here.

    Keys that the old template did not have stay where they are: reading them says that they are unknown.
    """
    new: dict[str, Any] = {}
    told = []
    for key, value in leaves(values):
        if key in NOT_HERE:
            told.append(f"{key} has no counterpart: {NOT_HERE[key]}")
            continue
        wanted = translated(key, value)
        put(new, KEYS.get(key, key), wanted)
        if KEYS.get(key, key) != key or wanted != value:
            told.append(f"{key} is {KEYS.get(key, key)} here: {wanted}")
    return new, told


def leaves(values: Any, key: str = "") -> list[tuple[str, Any]]:
    """The keys that stand in our tables with their values, and what no table has."""
    if not isinstance(values, dict) or key in KEYS:
        return [(key, values)]
    below = (leaves(child, f"{key}.{name}" if key else name) for name, child in values.items())
    return [leaf for part in below for leaf in part]


def translated(key: str, value: Any) -> Any:
    """The value as we write it."""
    if key == "loss":
        return {"name": NAMES.get(value, value)}
    if key == "arch":
        # How many classes there are, its one argument, is said by the data here.
        return {"name": NAMES.get(value["type"], value["type"])}
    if key in ("optimizer", "lr_scheduler"):
        return {"name": value["type"], **value.get("args", {})}
    if key == "metrics":
        return [NAMES.get(name, name) for name in value]
    if key == "trainer.monitor":
        return value.replace(" val_", " valid_")
    return NAMES.get(value, value) if isinstance(value, str) else value


def put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value
