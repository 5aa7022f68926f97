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

    What the old template did not have stays where it is: reading it says that it is unknown.
    """
    new: dict[str, Any] = {}
    told = []
    for key, value in leaves(values):
        if key in NOT_HERE:
            told.append(f"{key} has no counterpart: {NOT_HERE[key]}")
            continue
        ours, wanted = KEYS.get(key, key), translated(key, value)
        *parents, last = ours.split(".")
        table = new
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = wanted
        if ours != key or wanted != value:
            told.append(f"{key} is {ours} here: {wanted}")
    return new, told


def leaves(values: Any, key: str = "") -> list[tuple[str, Any]]:
    """The keys that stand in our table with their values, and what no table has."""
    if not isinstance(values, dict) or key in KEYS:
        return [(key, values)]
    below = (leaves(child, f"{key}.{name}" if key else name) for name, child in values.items())
    return [leaf for part in below for leaf in part]


def translated(key: str, value: Any) -> Any:
    """The value as we write it."""
    if key == "metrics" and isinstance(value, list):
        return [NAMES.get(name, name) for name in value]
    if key == "trainer.monitor" and isinstance(value, str):
        return value.replace(" val_", " valid_")
    if isinstance(value, dict):  # How many classes there are is said by the data here.
        arguments = {} if key == "arch" else value.get("args", {})
        return {"name": NAMES.get(value.get("type"), value.get("type")), **arguments}
    wanted = NAMES.get(value, value) if isinstance(value, str) else value
    return {"name": wanted} if key == "loss" else wanted
