import numpy as np
import pytest

from pixelserve_training.errors import SourceError
from pixelserve_training.measuring import calibrate
from pixelserve_training.measuring.evaluate import measure


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def honest() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float64 [20000, 5] and labels drawn with exactly those probabilities."""
    random = np.random.default_rng(0)
    probabilities = _softmax(2 * random.normal(size=(20_000, 5)))
    labels = (probabilities.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    return probabilities, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoiled_honest_probabilities_is_found(
    honest: tuple[np.ndarray, np.ndarray], temperature: float
) -> None:
    probabilities, labels = honest
    overconfident = _softmax(np.log(probabilities) * temperature)
    assert calibrate.find_temperature(overconfident, labels) == pytest.approx(temperature, rel=0.03)


def test_applying_a_temperature_divides_the_logits() -> None:
    logits = np.array([[1.0, 2.0, 4.0], [0.0, -3.0, 0.5]])
    np.testing.assert_allclose(calibrate.apply_temperature(_softmax(logits), 2), _softmax(logits / 2), rtol=1e-12)


def test_a_probability_of_zero_stays_finite() -> None:
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert np.isfinite(calibrate.find_temperature(probabilities, np.array([0, 1])))
    assert np.isfinite(calibrate.apply_temperature(probabilities, 3)).all()


def test_calibration_is_told_with_and_without_the_temperature(honest: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = honest
    figures = measure(probabilities, labels, "abcde", split="test", temperature=2.0)
    assert figures.calibration is not None
    assert figures.calibration.temperature == 2.0
    assert figures.calibration.expected_calibration_error < 0.02
    assert figures.calibration.uncalibrated_error is not None
    assert figures.calibration.uncalibrated_error > 0.05


@pytest.mark.slow
def test_a_keras_model_divides_its_logits_in_its_last_layer(keras) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    rows = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    before = model.predict(rows, verbose=0)
    calibrate.divide_logits(model, 1.7)
    np.testing.assert_allclose(
        model.predict(rows, verbose=0), calibrate.apply_temperature(before, 1.7), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_a_model_without_a_softmax_in_its_last_layer_is_refused(keras) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(SourceError, match="requires a Dense layer with a softmax"):
        calibrate.divide_logits(model, 2)
