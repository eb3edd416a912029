"""The list of `make mutants` fits the code."""

from pathlib import Path

import mutants
import pytest


@pytest.mark.parametrize("mutant", mutants.read(), ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_names_tests_that_are_there(mutant: mutants.Mutant, root: Path) -> None:
    assert (root / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert all((root / path).is_file() for path in mutant.tests.split())
