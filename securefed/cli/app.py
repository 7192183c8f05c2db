"""The `securefed` command: loads a subcommand's module only when that subcommand is used."""

import errno
import importlib
import os
import signal
import sys
from difflib import get_close_matches
from types import FrameType
from typing import Any, NoReturn

import click

from protocols.errors import ProtocolError
from securefed import __version__
from securefed.errors import DiskFull, Interrupted, SecureFedError
from securefed.files import AGAIN, is_full

# name -> (module, one-line help). The help stands here so that `securefed --help` imports no torch.
COMMANDS = {
    "run": ("securefed.cli.run", "Train one model over several hospitals."),
    "budget": ("securefed.cli.budget", "Plan noise, epsilon and rounds before running."),
    "ledger": ("securefed.cli.ledger", "Show what patients have spent, set their budget."),
    "audit": ("securefed.cli.audit", "Attack what each observer of a run saw, and judge it."),
    "compare": ("securefed.cli.compare", "Put configurations side by side."),
    "report": ("securefed.cli.report", "Write one page about a run or a comparison, or verify it."),
    "predict": ("securefed.cli.predict", "Ask a run's model about patients."),
    "evaluate": ("securefed.cli.evaluate", "Measure a run's model on labelled patients."),
    "explain": ("securefed.cli.explain", "Show which places of a patient made the answer."),
    "export": ("securefed.cli.export", "Hand a run's model on, as ONNX or a MONAI bundle."),
    "pretrain": ("securefed.cli.pretrain", "Make public encoder weights."),
    "convert-weights": ("securefed.cli.convert_weights", "Make them of torchvision's weights."),
    "survey": ("securefed.cli.survey", "Count what hospitals hold, under masks and with noise."),
    "data": ("securefed.cli.data", "Make phantom patients, import scans, check a manifest."),
    "site": ("securefed.cli.site", "Make a hospital's own folder, show what it has spent."),
    "keys": ("securefed.cli.keys", "Show, replace and revoke identity keys of hospitals."),
    "agreement": ("securefed.cli.agreement", "Make and accept what a federation agrees on."),
    "deploy": ("securefed.cli.deploy", "Connect hospitals' machines with a server's."),
    "server": ("securefed.cli.server", "Serve a federation's run to its hospitals."),
    "demo": ("securefed.cli.demo", "Show a federation of four hospitals on this machine."),
    "client": ("securefed.cli.client", "Take part in a federation, as a hospital."),
}

STOPPED, BEGIN_AGAIN = "stopped; nothing half-written is left", "the same command begins again"
STOP = (signal.SIGTERM, signal.SIGHUP)  # docker stop, systemd, Slurm; a dropped connection


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in COMMANDS:
            near = get_close_matches(name, COMMANDS)
            meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):  # Abort: where a question was to be answered
            if sys.stderr.isatty():
                click.echo(err=True)  # what the terminal writes, ^C, stands on a line of its own
            raise Interrupted(STOPPED, hint=BEGIN_AGAIN) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="securefed")
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Federated learning on scans of several modalities (CT and MRI, or others), with
    differential privacy and secure aggregation.

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
    stop_like_ctrl_c()
    try:
        code = cli.main(standalone_mode=False)  # of an exit that a command asked for
        if isinstance(code, int):
            sys.exit(code)
    except (SecureFedError, ProtocolError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, OSError):
            error = _of_the_system(error)
        # The protocol's refusals that reach this far mean that the run cannot go on.
        code = error.exit_code if isinstance(error, SecureFedError) else 1
        _leave(str(error), error.hint, code)
    except click.Abort:  # before there was a command; it is a RuntimeError
        _leave(STOPPED, BEGIN_AGAIN, Interrupted.exit_code)
    except RuntimeError as error:
        # What pathlib raises for a circle of links, before Python 3.13.
        if "--debug" in sys.argv or not str(error).startswith("Symlink loop"):
            raise
        _leave(f"{error}", "a link there leads to itself: name what it should point to", 1)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        message = error.format_message()
        _leave(
            message[:1].lower() + message[1:].rstrip("."),
            f"{command or 'securefed'} --help shows what there is",
            2,
        )


def stop_like_ctrl_c() -> None:
    """Have signals that ask a program to end do what Ctrl-C would do at that moment."""
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:  # service managers send several together, and a second Ctrl-C means hurry
            return
        asked = True
        now = signal.getsignal(signal.SIGINT)
        # A shell starts jobs in the background with SIGINT ignored.
        (now if callable(now) else signal.default_int_handler)(signal.SIGINT, frame)

    for each in STOP:
        # A program that is to outlive its terminal (nohup) was started with SIGHUP ignored.
        if signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, stop)


def _of_the_system(error: OSError) -> SecureFedError:
    """What the system refused: it is not a fault of this program, and needs no traceback."""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if name is not None]
    text = ": ".join([*map(str, names), error.strerror or str(error)])
    if is_full(error):
        return DiskFull(text, hint=AGAIN)
    hints = {
        errno.EACCES: "this account may not do that there",
        errno.EROFS: "choose another place",
        errno.ENOTDIR: "a file is there where a folder should be: name another place",
        errno.EEXIST: "something of that name is there already: name another place",
        errno.EISDIR: "a folder is there where a file should be: name the file",
        errno.ENOENT: "check how it is spelt, and where it is",
    }
    return SecureFedError(text, hint=hints.get(error.errno or 0, "securefed --debug shows where"))


def _leave(message: str, hint: str | None, code: int) -> NoReturn:
    click.echo(f"securefed: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
