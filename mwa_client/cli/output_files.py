"""The files that options name to be written: none is another's, nor one that a directory needs for itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mwa_client.cli.error_file import check_error_file
from mwa_client.cli.report_file import check_report_file
from mwa_client.errors import SettingsError

if TYPE_CHECKING:
    from mwa_client.cli.settings import Settings


def check_output_files(settings: Settings) -> None:
    """Refuse to write the errors or the page about a run over something else.

    Raises
    ------
    SettingsError
        It says which option names such a file.
    """
    output = settings.output
    given = {"--error-file": output.error_file, "--report": output.report}
    wanted = {name: _real(path) for name, path in given.items() if path is not None}
    if not wanted:
        return
    if len(set(wanted.values())) < len(wanted):
        raise SettingsError(f"{' and '.join(wanted)} name the same file.", "Give each a file of its own.")
    from mwa_client.batch.ledger import STATE_DIR
    from mwa_client.directory.sums import NAME

    for name, path in wanted.items():
        if any(path.is_relative_to(_real(settings.directory / kept)) for kept in (STATE_DIR, NAME)):
            what = f"{name}={given[name]} is not possible: mwa_client has a file of its own there."
            raise SettingsError(what, f"Choose another {name}.")
    check_error_file(output.error_file)
    check_report_file(output.report)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
