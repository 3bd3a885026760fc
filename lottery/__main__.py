"""`python -m lottery`: looks at run directories, without Spark."""

from __future__ import annotations

from lottery.commands.registry import COMMANDS
from preprocessing.common.command_line import CommandLine
from preprocessing.common.program import run_or_explain


def main() -> int:
    """Parses the command line and runs the command."""
    parser = CommandLine("python -m lottery", __doc__)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.help, description=command.help))
    arguments = parser.parse_args()
    return COMMANDS[arguments.command].run(arguments)


if __name__ == "__main__":
    run_or_explain(main)
