"""The generated tables of docs/ are up to date."""

import pytest
import reference_docs


@pytest.mark.parametrize("name", reference_docs.PAGES)
def test_generated_tables_are_up_to_date(name: str) -> None:
    text = (reference_docs.DOCS / name).read_text()
    assert reference_docs.page(name, text) == text, "run `make reference-docs`"


def test_a_page_without_one_of_its_tables_is_refused() -> None:
    with pytest.raises(ValueError, match=r"docs/settings.md: missing tables: \['settings'\]"):
        reference_docs.page("settings.md", "# Settings\n")
