"""Groups options under headings in a command's help."""

from typing import Any

import typer.core


class PanelCommand(typer.core.TyperCommand):
    """A command whose help lists each option under its `rich_help_panel`, without Rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, the options, then each panel in the order of its first option."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
