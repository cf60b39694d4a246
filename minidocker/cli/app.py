"""The command line by click, made from the table in options.py: help, errors, and every command that is not hot.

click only parses here: `parse` returns the Call, and cli.main does it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import click

from minidocker import __version__
from minidocker.cli import options, options_cold, options_groups, spelling
from minidocker.cli.call import Call
from minidocker.errors import UsageError

PROGRAM = "minidocker"
WIDEST_HELP = 110


def parse(words: list[str]) -> Call | int:
    """The call that `words` spell, or the exit code when help or a version was asked for and printed.

    Raises our UsageError, with near misses as its hint, for what click refuses.
    """
    try:
        parsed = _application().main(words, prog_name=PROGRAM, standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        raise _translated(error) from None
    return parsed if isinstance(parsed, (Call, int)) else 0


class _Option(click.Option):
    """An option of the table."""

    def __init__(self, option: options.Option) -> None:
        self.option = option
        flag = option.kind == options.FLAG
        super().__init__(
            [*option.names, option.key],
            help=option.help,
            is_flag=flag or None,  # False would make click take a missing value for an empty one
            multiple=option.kind == options.LIST,
            metavar=option.metavar or None,
            type=None if flag else click.UNPROCESSED,
            expose_value=True,
        )

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        if self.is_flag:  # what spelling.py makes of --flag=false
            parser.add_option(self, [spelling.off(name) for name in self.option.shown], self.name, "store_const", const=False)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return f"{', '.join(self.option.shown)} {self.option.metavar}".rstrip(), self.option.help


class _Command(click.Command):
    """A command of the table; invoking it gives its Call."""

    def __init__(self, command: options.Command, path: str = "", hidden: bool = False) -> None:
        """`path` is what is typed after `minidocker` where that is not the command's own name; `hidden` where help does not show it."""
        self.command = command
        self.path = path or command.name
        parameters: list[click.Parameter] = [_Option(option) for option in command.options]
        if command.most:
            parameters.append(click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED))
        super().__init__(
            self.path.rpartition(" ")[2],
            hidden=hidden,
            params=parameters,
            help=command.summary + ".",
            short_help=command.summary,
            context_settings={"allow_interspersed_args": command.interspersed, "allow_extra_args": True, "max_content_width": WIDEST_HELP},
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, spelling.rewritten(self.command.options, self.command.interspersed, args))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> Call:
        return _call(ctx, self.command)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(PROGRAM, self.command.usage_as(self.path).partition(" ")[2])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.command.examples:
            with formatter.section("Examples"):
                formatter.write("\n".join(f"  # {why}\n  {example}\n" for why, example in self.command.examples))


class _Group(click.Group):
    """A group that answers an unknown command with what was perhaps meant, and no command with its help."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            raise UsageError(f"unknown command `{ctx.command_path} {args[0]}`", self._suggestion(ctx, args))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, spelling.rewritten(options.GLOBAL if ctx.parent is None else (), False, args))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def _suggestion(self, ctx: click.Context, args: list[str]) -> str:
        if near := _near(args[0], self.commands):
            return "did you mean " + " or ".join(f"`{ctx.command_path} {name}`" for name in near) + "?"
        if ctx.parent is None and "/" in args[0]:
            return f"did you mean `{PROGRAM} run {args[0]}`?"
        return f"see `{ctx.command_path} --help`"

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx._protected_args and not ctx.args:
            click.echo(ctx.get_help())
            return 0
        return super().invoke(ctx)


def _write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """The options one below the other, those without a letter indented as far as the others' long names."""
    shown = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    records = [record for option in shown if (record := option.get_help_record(ctx))]
    with formatter.section("Options"):
        formatter.write_dl([(" " * 4 * left.startswith("--") + left, right.rstrip(".")) for left, right in records])


def _near(word: str, candidates: Iterable[str]) -> list[str]:
    """What was perhaps meant, the nearest first."""
    return get_close_matches(word, candidates, n=2, cutoff=0.6)


def _application() -> click.Group:
    settings: dict[str, Any] = {"max_content_width": WIDEST_HELP}
    application = _Group(
        PROGRAM,
        params=[*map(_Option, options.GLOBAL)],
        help="Run commands in containers whose network is in plain view.",
        epilog=f"See `{PROGRAM} COMMAND --help` for a command's options.",
        no_args_is_help=False,
        invoke_without_command=True,
        subcommand_metavar="COMMAND",
        context_settings={"help_option_names": ["-h", "--help"], **settings},
    )
    click.version_option(__version__, "-v", "--version", prog_name=PROGRAM, message="%(prog)s %(version)s", help="Show the version.")(
        application
    )
    for command in options_cold.COMMANDS:
        application.add_command(_Command(command))
    for group in options_groups.GROUPS:
        application.add_command(_group(group, settings))
    return application


def _group(group: options_groups.Group, settings: dict[str, Any]) -> click.Group:
    made = _Group(
        group.name,
        help=group.summary + ".",
        short_help=group.summary,
        no_args_is_help=False,
        invoke_without_command=True,
        subcommand_metavar="COMMAND",
        context_settings=settings,
    )
    below = dict(group.commands)
    for name, command in below.items():
        made.add_command(_Command(command, f"{group.name} {name}"))
    for alias, name in group.aliases:
        made.add_command(_Command(below[name], f"{group.name} {alias}", hidden=True))
    return made


def _call(ctx: click.Context, command: options.Command) -> Call:
    """What click found, in the same shape as hot.py makes it."""
    given: dict[str, bool | str | list[str]] = {}
    for option in command.options:
        value = ctx.params.get(option.key)
        if value not in (None, False, ()) and ctx.get_parameter_source(option.key) is click.core.ParameterSource.COMMANDLINE:
            given[option.key] = list(value) if isinstance(value, tuple) else value
    arguments = list(ctx.params.get("arguments", ())) + ctx.args
    if len(arguments) < command.least:
        raise UsageError(f"`{PROGRAM} {command.name}` needs {command.arguments}", f"usage: {command.usage}")
    if 0 <= command.most < len(arguments):
        raise UsageError(f"`{PROGRAM} {command.name}`: unexpected argument `{arguments[command.most]}`", f"usage: {command.usage}")
    top = ctx.find_root().params
    return Call(command, given, arguments, top.get("root"), bool(top.get("debug")))


def _translated(error: click.ClickException) -> UsageError:
    """click's complaint in our words."""
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else PROGRAM
    if isinstance(error, click.NoSuchOption):
        names = [] if error.ctx is None else [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts]
        near = _near(error.option_name, [name for name in names if name.startswith("--")])
        hint = "did you mean " + " or ".join(f"`{name}`" for name in near) + "?" if near else f"see `{path} --help`"
        return UsageError(f"`{path}`: unknown option `{error.option_name}`", hint)
    if isinstance(error, click.BadOptionUsage) and error.ctx is not None:
        flags = [name for param in error.ctx.command.get_params(error.ctx) if getattr(param, "is_flag", False) for name in param.opts]
        takes = "takes no value" if error.option_name in flags else "needs a value"
        return UsageError(f"`{path}`: option `{error.option_name}` {takes}", f"see `{path} --help`")
    return UsageError(f"`{path}`: {error.format_message().rstrip('.')}", f"see `{path} --help`")
