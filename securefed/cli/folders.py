"""Which run a command is about: a run directory, a server's folder, or one of a site's runs."""

from pathlib import Path

import click

from securefed.errors import ConfigurationError

SITE_FILE = "site.yaml"  # hospital.site.NAME, whose module takes seconds to import

RUN_OPTION = click.option(
    "--run",
    "chosen",
    metavar="NAME",
    help="Of a site's folder: the run, by its agreement's name or the beginning of its digest.",
)


def run_folder(folder: Path, chosen: str | None) -> Path:
    """The folder of the run: the folder itself, or of a site's runs the chosen or only one.

    Raises:
        ConfigurationError: no such run, or several and none is chosen.
    """
    if not (folder / SITE_FILE).is_file():
        if chosen is not None:
            raise ConfigurationError(
                f"--run chooses among the runs of a site, and {folder} is none",
                hint=f"leave --run out, or give the folder with {SITE_FILE}",
            )
        return folder
    from securefed.hospital.site import open_site  # imports torch

    site = open_site(folder)
    runs = [each for each in site.agreements() if site.has_begun(each)]
    names = ", ".join(f"{each.name} ({each.digest[:16]})" for each in runs)
    if not runs:
        raise ConfigurationError(
            f"{site.name} has taken part in no run yet", hint=f"securefed client {folder}"
        )
    if chosen is None and len(runs) > 1:
        raise ConfigurationError(
            f"{site.name} has taken part in {len(runs)} runs: {names}",
            hint="choose one of them with --run",
        )
    found = [
        site.run(each.run)
        for each in runs
        if chosen is None or each.name == chosen or each.digest.startswith(chosen.lower())
    ]
    if len(found) != 1:
        several = "several runs" if found else "no run"
        raise ConfigurationError(
            f"{site.name} has {several} named {chosen!r}; it has {names}",
            hint="give the beginning of the digest",
        )
    return found[0]
