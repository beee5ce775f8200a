"""The command `tracesift`: one program, a function per command, one place where failures become words.

Commands are imported when they are called, so that `sql` or `why` loads neither torch nor prefect.
"""

from __future__ import annotations

import sys

try:  # the imports take longer than anything before the first line, and Ctrl-C may fall into them
    import errno
    import os
    from contextlib import ExitStack
    from importlib.metadata import version
    from pathlib import Path
    from typing import NoReturn

    from cyclopts import App, CycloptsError
    from cyclopts.config import Dict

    from tracesift.catalog.schema import BadInput
    from tracesift.flows.config_file import take_config, workspace_in
    from tracesift.flows.progress import naming, runnable
except KeyboardInterrupt:
    sys.exit(130)

COMMANDS = {
    "curate": "curate:curate",
    "ingest": "stages:ingest",
    "record": "stages:record",
    "embed": "stages:embed",
    "score": "stages:score",
    "influence": "influence:influence",
    "report": "stages:report",
    "import": "importing:import_",
    "protect": "protect:protect",
    "project": "project:project",
    "select": "subsets:select",
    "advise": "subsets:advise",
    "evaluate": "subsets:evaluate",
    "forget": "subsets:forget",
    "requests": "subsets:requests",
    "purge": "purge:purge",
    "export": "export:export",
    "goldfish": "goldfish:goldfish",
    "review": "review:review",
    "sql": "look:sql",
    "why": "look:why",
    "scorers": "look:scorers",
    "selectors": "look:selectors",
    "jobs": "look:jobs",
    "verify": "care:verify",
    "diff": "care:diff",
    "gc": "care:gc",
    "doctor": "care:doctor",
}
"""Command to ``module:function`` under `tracesift.flows.commands`."""

HELP = """Watch a model train, score every sample, and decide which to train on, fix, or forget.

`tracesift curate digits` does the whole way on embedded data; `tracesift COMMAND --help` explains each command.
Any option may stand in a TOML file under its command's name, given with `--config FILE.toml`.
Exit codes: 0 done, 1 failed, 2 wrong usage or bad input. `--debug` shows the traceback.
"""


def program() -> App:
    """Build the command line; the commands themselves load when called."""
    app = App(
        name="tracesift", help=HELP, version=lambda: version("tracesift"), result_action="return_value",
        help_format="markdown", suppress_keyboard_interrupt=False,
    )  # fmt: skip
    for name, where in COMMANDS.items():
        app.command(f"tracesift.flows.commands.{where}", name=name)
    return app


def main() -> NoReturn:
    """Run the command of `sys.argv` and leave with its exit code."""
    # A user's own `--model module:function` lies where the command is called, and a console script starts
    # without that folder; at the end of the list it shadows nothing that is installed.
    sys.path.append(str(Path.cwd()))
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage or bad input."""
    with ExitStack() as stack:
        stack.enter_context(naming(_named(arguments)))
        return _run(arguments, stack)


def _run(arguments: list[str], stack: ExitStack) -> int:
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    # Neither a scheduler nor a dataset library reports home unless the user's environment asks for it.
    for quiet in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(quiet, "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    try:
        app = program()
        if not arguments or arguments[0].startswith("-"):
            for name in COMMANDS:
                app[name]  # loads it, so that the overview says what it does
        arguments, tables = take_config(app, arguments)
        if tables:
            app.config = (Dict(tables, source="--config"),)
            if _named(arguments) is None:
                stack.enter_context(naming(workspace_in(tables, arguments)))
        return int(app(arguments, exit_on_error=False, print_error=False) or 0)
    except CycloptsError as error:
        return _refuse(f"{error} (`tracesift {' '.join(arguments[:1])} --help` explains)")
    except BadInput as error:
        if debug:
            raise
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
            mend = (
                "free some space"
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                else "allow writing there"
            )
            return _refuse(
                f"cannot write {error.filename or 'the workspace'}: {error.strerror}; {mend} or choose another "
                "--workspace, then run the same command again"
            )
        if error.errno in (errno.EISDIR, errno.ENOTDIR):
            return _refuse(f"{error.filename2 or error.filename}: {error.strerror}; name another file")
        print(f"tracesift failed: {error} (--debug shows where)", file=sys.stderr)
        return 1
    except Exception as error:
        if debug:
            raise
        print(f"tracesift failed: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1


def _named(arguments: list[str]) -> str | None:
    """Return the workspace that the words of a command name, if any."""
    for at, word in enumerate(arguments):
        option, mark, value = word.partition("=")
        if option == "--workspace":
            return value if mark else next(iter(arguments[at + 1 :]), None)
    return None


def _refuse(message: str) -> int:
    print("tracesift: " + runnable(" ".join(message.split())), file=sys.stderr)
    return 2
