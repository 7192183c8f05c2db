"""The `securefed` command: loads a subcommand's module only when that subcommand is used."""

import importlib
import os
import sys

import click

from protocols.errors import ProtocolError
from securefed import __version__
from securefed.errors import SecureFedError

# name -> (module, one-line help). The help stands here so that `securefed --help` imports no torch.
COMMANDS = {
    "run": ("securefed.cli.run", "Train one model over several hospitals."),
    "budget": ("securefed.cli.budget", "Plan noise, epsilon and rounds before running."),
    "ledger": ("securefed.cli.ledger", "Show what patients have spent, amend their budget."),
    "audit": ("securefed.cli.audit", "Attack what each observer of a run saw, and judge it."),
    "compare": ("securefed.cli.compare", "Put configurations side by side."),
    "report": ("securefed.cli.report", "Write one page about a run or a comparison, or verify it."),
    "pretrain": ("securefed.cli.pretrain", "Make the public encoder weights again."),
    "data": ("securefed.cli.data", "Make phantom patients, check a manifest."),
}


class LazyGroup(click.Group):
    """A click group that imports the module of a subcommand on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[name][0]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[name][0]}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="securefed")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Federated learning on paired CT and MRI scans, with differential privacy and
    secure aggregation.

    \b
    securefed run --dp-epsilon 8       train on built-in phantom patients
    securefed run --data my.csv        train on your own scans
    """
    ctx.obj = {"debug": debug}


def main() -> None:
    """Run the command line; a known error becomes two lines on stderr and its exit code."""
    # Before torch is loaded. Its threads else spin while they wait for each other, and beside
    # another busy program an audit then takes four times as long; alone, no difference is seen.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        cli.main(standalone_mode=False)
    except (SecureFedError, ProtocolError) as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"securefed: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        # The protocol's refusals that reach this far mean that the run cannot go on.
        sys.exit(error.exit_code if isinstance(error, SecureFedError) else 1)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        click.echo("securefed: stopped", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
