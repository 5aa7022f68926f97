"""Reads the `config.json` of victoresque's pytorch-template, and says what became of each key."""

from typing import Any

KEYS = {
    "arch": "model",
    "lr_scheduler": "scheduler",
    "data_loader.type": "data.name",
    "data_loader.args.data_dir": "data.root",
    "data_loader.args.batch_size": "data.batch_size",
    "data_loader.args.validation_split": "data.valid",
    "data_loader.args.num_workers": "data.workers",
}
GONE = {
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
        if key in GONE:
            told.append(f"{key} has no counterpart: {GONE[key]}")
            continue
        ours, wanted = KEYS.get(key, key), translated(key, value)
        *parents, last = ours.split(".")
        table = new
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = wanted
        if (ours, wanted) != (key, value):
            told.append(f"{key} is {ours} here: {wanted}")
    return new, told


def leaves(values: dict[str, Any], where: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and their values; what was chosen with its arguments is one value."""
    found = []
    for name, value in values.items():
        is_table = isinstance(value, dict) and (name == "data_loader" or "type" not in value)
        found += leaves(value, f"{where}{name}.") if is_table else [(where + name, value)]
    return found


def translated(key: str, value: Any) -> Any:
    """The value as we write it."""
    if key == "loss":
        return {"name": NAMES.get(value, value)}
    if isinstance(value, dict):  # How many classes there are is said by the data here.
        arguments = {} if key == "arch" else value.get("args", {})
        return {"name": NAMES.get(value["type"], value["type"]), **arguments}
    if isinstance(value, list):
        return [NAMES.get(name, name) for name in value]
    return NAMES.get(value, value.replace(" val_", " valid_")) if isinstance(value, str) else value
