"""A user's own recipe: errors name the file, the line and the remedy, before anything is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelserve_training import recipe_file
from pixelserve_training.errors import UsageError
from pixelserve_training.recipe import KerasRecipe

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "data" / "tiny"
Command = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
PROLOGUE = "from pixelserve_training import KerasRecipe\n"
MADE = 'RECIPE = KerasRecipe(name="mine", dataset="mnist", build=build, epochs=1, batch_size=50)\n'
NETWORK = """
def build(classes):
    import keras
    return keras.Sequential([
        keras.Input({input}),
        keras.layers.Flatten(),
        keras.layers.Dense({width}, activation={activation}),
    ])
"""
GOOD = {"input": '(28, 28, 1), dtype="uint8"', "width": "classes", "activation": '"softmax"'}


def network(**changes: str) -> str:
    return PROLOGUE + NETWORK.format(**GOOD | changes) + MADE


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "my_recipe.py"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"my_recipe\.py has no RECIPE; add one, such as RECIPE = KerasRecipe\("),
        ("RECIPE = {'name': 'mine'}\n", r"RECIPE is a dict; expected a .*KerasRecipe"),
        ("x = 1\nimport not_there\n", r"my_recipe\.py, line 2: ModuleNotFoundError: No module named 'not_there'"),
        ("x = 1\n\ny = (\n", r"my_recipe\.py, line 3: SyntaxError: '\(' was never closed"),
        ("def f():\n    return 1 / 0\n\nf()\n", r"my_recipe\.py, line 2: ZeroDivisionError"),
        ("import sys\nsys.exit('bye')\n", r"my_recipe\.py, line 2: SystemExit: bye; correct the recipe"),
        (PROLOGUE + "RECIPE = KerasRecipe(name='mine')\n", r"my_recipe\.py, line 2: TypeError: .*missing"),
        (
            PROLOGUE + "build = print\n" + MADE.replace("mine", "my digits"),
            'the recipe\'s name is "my digits"; expected',
        ),
        (PROLOGUE + "build = print\n" + MADE.replace("mine", "mnist-cnn"), "mnist-cnn is that of a recipe in the zoo"),
        *(
            (PROLOGUE + "build = print\n" + MADE.replace("epochs=1", given), f"the recipe mine: {message}")
            for given, message in (
                ("epochs=-1", "epochs=-1: it should be greater than or equal to 1"),
                ("epochs=1.5", r"epochs=1\.5: it should be a valid integer"),
                ("epochs='3'", "epochs='3': it should be a valid integer"),
                ("epochs=1, optimizer='adam'", r"optimizer='adam': it should be Optimizer\(…\)"),
                ("epochs=1, optimizer=None", r"optimizer=None: it should be Optimizer\(…\)"),
                ("epochs=1, ensemble='bagging'", r"ensemble='bagging': it should be Ensemble\(…\)"),
                ("epochs=1, loss='mse'", "loss='mse': it should be 'sparse_categorical_crossentropy', "),
                ("epochs=1, augmentation=[]", r"augmentation=\[\]: it should be callable"),
                ("epochs=1, also_saved_as=('.exe',)", r"also_saved_as=\('\.exe',\): it should be '\.h5'"),
                ("epochs=1, held_out=1.5", r"held_out=1\.5: expected a share between 0 and 1, or a whole number"),
            )
        ),
        (
            PROLOGUE + "build = print\n" + MADE.replace("epochs=1", "epochs=1, cut_mix=1.0"),
            "cut_mix needs one-hot labels, but mine minimises sparse_categorical_crossentropy",
        ),
        (
            "from pixelserve_training import KerasRecipe, Optimizer\nbuild = print\n"
            + MADE.replace("epochs=1", "optimizer=Optimizer(learning_rate=-1), epochs=1"),
            r"the recipe mine: optimizer\.learning_rate=-1: it should be greater than 0",
        ),
    ],
)
def test_a_file_that_defines_no_recipe_is_refused(write: Callable[[str], Path], text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe_file.read(write(text))


def test_a_file_that_does_not_exist_is_refused(pixelserve: Command, tmp_path: Path) -> None:
    ran = pixelserve("train", tmp_path / "other.py")
    assert ran.exit_code == 2
    assert "other.py: No such file or directory; give a Python file with a RECIPE" in ran.err


def test_a_file_may_import_what_lies_beside_it(write: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "beside_the_recipe.py").write_text("EPOCHS = 7\n")
    text = "from beside_the_recipe import EPOCHS\n" + network().replace("epochs=1", "epochs=EPOCHS")
    recipe = recipe_file.read(write(text)).recipe
    assert isinstance(recipe, KerasRecipe)
    assert recipe.epochs == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            network(input='(32, 32, 3), dtype="uint8"'),
            "takes uint8 [None, 32, 32, 3], but MNIST has uint8 [None, 28, 28, 1]",
        ),
        (network(input="(28, 28, 1)"), "takes float32 [None, 28, 28, 1], but MNIST has uint8"),
        (network(width="7"), "gives [None, 7], but sparse_categorical_crossentropy on MNIST needs [None, 10]"),
        (network(activation="None"), "outputs are not probabilities"),
        (network(activation='"sigmoid"'), 'end with the activation "softmax"'),
        (network(width="classes, widht=3"), "my_recipe.py, line 8: "),
        (network().replace("return keras.Sequential", "return tuple"), "build returns a tuple; expected a Keras model"),
        (network().replace('"mnist"', '"minst"'), 'there is no data set "minst"; there are: and, blood-fat'),
        (network().replace('dataset="mnist"', "dataset=dict"), "own data is a dict; expected a Dataset"),
        (network().replace("epochs=1", 'loss="mean_squared_error", epochs=1'), "mean_squared_error does not fit MNIST"),
        (network().replace("epochs=1", 'picture="fit=odd", epochs=1'), "mine: its picture is fit=odd: fit=odd"),
        (
            network(activation="lambda x: __import__('tensorflow').py_function(lambda: 1 / 0, [], 'float32') + x"),
            "UnknownError: Graph execution error:; correct mine's network",
        ),
        (network(activation="lambda x: x * float('nan')"), "outputs are not probabilities (nan, "),
        (
            network().replace('"mnist"', "lambda: {}['digits']").replace("build=", "\n  build="),
            "my_recipe.py, line 10: KeyError: 'digits'; correct the recipe's data",
        ),
        *(
            (PROLOGUE.replace("\n", ", Optimizer\n") + network().replace("epochs=1", f"epochs=1, {given}"), message)
            for given, message in (
                ('optimizer=Optimizer("sgdd")', "mine: Keras does not take the optimizer sgdd(): "),
                (
                    'optimizer=Optimizer("sgd", options={"momentun": 0.9})',
                    "mine: Keras does not take the optimizer sgd(momentun=0.9): Argument(s) not recognized: ",
                ),
                ("initialize=lambda model: None", "TypeError: <lambda>() takes 1 positional argument but 2 were given"),
                ("augmentation=lambda: 1 / 0", "ZeroDivisionError: division by zero; correct mine's augmentation"),
                ("augmentation=lambda: [1]", "mine: augmentation returns [1]; expected a list of Keras layers"),
                (
                    "augmentation=lambda: [__import__('keras').layers.Resizing(20, 20)]",
                    "mine: augmentation makes [None, 20, 20, 1] of [None, 28, 28, 1]; the shape must stay",
                ),
            )
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_it_is_trained(
    pixelserve: Command, write: Callable[[str], Path], tmp_path: Path, text: str, message: str
) -> None:
    ran = pixelserve("train", write(text), "--data-dir", TINY, "--run-dir", tmp_path / "run")
    assert ran.exit_code == 2
    assert message in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_is_not_resumed_with_another_file(
    pixelserve: Command, write: Callable[[str], Path], tmp_path: Path
) -> None:
    run = ("--data-dir", TINY, "--run-dir", tmp_path / "run")
    assert pixelserve("train", write(network()), *run).exit_code == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["own_recipe"]["sha256"] == recipe_file.read(write(network())).sha256
    assert "is finished; nothing is trained" in pixelserve("train", write(network()), *run, "--resume").err
    ran = pixelserve("train", write(network() + "# changed\n"), *run, "--resume")
    assert ran.exit_code == 2
    assert "its file has changed; restore it, or start another run" in ran.err


REGRESSION = """
import keras
import numpy as np
from pixelserve_training import Goal, KerasRecipe, from_arrays

def sums():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    return from_arrays("Sums", (rows, rows.sum(axis=1)), target="sum")

def build(classes):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

RECIPE = KerasRecipe(
    name="sums", dataset=sums, build=build, loss="mean_squared_error", epochs=1, batch_size=10, held_out=0.2{more}
)
"""


@pytest.mark.slow
def test_a_regression_is_measured_by_its_error_with_and_without_a_goal(
    pixelserve: Command, write: Callable[[str], Path], tmp_path: Path
) -> None:
    for number, more in enumerate(("", ', goal=Goal(1.0, metric="mean_squared_error")')):
        ran = pixelserve("train", write(REGRESSION.replace("{more}", more)), "--run-dir", tmp_path / str(number))
        assert ran.exit_code == 0, ran.err
        assert ran.out.startswith("validation mean squared error ")
    ran = pixelserve("train", write(REGRESSION.replace("{more}", ", goal=Goal(0.9)")), "--run-dir", tmp_path / "other")
    assert ran.exit_code == 2
    assert "sums: its goal is a bound of accuracy, but Sums gives mean_squared_error; correct it" in ran.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "values", "message"),
    [
        ("iris", ("mirrored=true",), "mirrored is for images, but Iris has rows; omit it"),
        ("iris", ("cut_mix=1", "loss=categorical_crossentropy"), "cut_mix is for images, but Iris has rows; omit it"),
        (
            "xor",
            ("loss=sparse_categorical_crossentropy",),
            "xor: its network gives [None, 1], but sparse_categorical_crossentropy on XOR needs [None, 2]",
        ),
        ("blood-fat", ("loss=binary_crossentropy",), "the loss binary_crossentropy does not fit"),
    ],
)
def test_values_of_the_zoos_recipes_that_do_not_fit_their_data_are_refused_before_training(
    pixelserve: Command, tmp_path: Path, recipe: str, values: tuple[str, ...], message: str
) -> None:
    given = [text for value in values for text in ("--set", value)]
    ran = pixelserve("train", recipe, *given, "--run-dir", tmp_path / "run")
    assert ran.exit_code == 2
    assert message in ran.err
