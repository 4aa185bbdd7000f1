"""python -m mwa_client.sandbox: run the practice service alone.

For people who test pipelines against it.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from . import option_values
from .fault_kinds import KINDS
from .faults import COMMON_OPTIONS
from .options import APIS, Options
from .sandbox import Sandbox

_GREETING = "Practice service at {url}; Ctrl-C ends it. To point a client at it:\n"
_EXPORT_2018 = "    export ASVO_HOST={url} ASVO_USER={user} ASVO_PASS={password}  # the interface of 2018"
_EXPORT_TODAY = "    export MWA_ASVO_HOST={url} MWA_ASVO_API_KEY={key}  # today's: {names}"


def _until_interrupted() -> None:
    threading.Event().wait()


def main(argv: Sequence[str] | None = None, wait: Callable[[], None] = _until_interrupted) -> int:
    """Run the practice service until it is interrupted and return the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The options; those of the program if left out.
    wait : Callable, optional
        What to do meanwhile; ends with KeyboardInterrupt.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        sandbox = _sandbox(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        sandbox.start()
    except OSError as error:
        print(f"Cannot listen on port {options.port}: {error.strerror}.", file=sys.stderr)
        return 1
    print(_greeting(sandbox.url, options.apis), flush=True)
    try:
        wait()
    except KeyboardInterrupt:
        pass  # The way to end it.
    finally:
        sandbox.stop()
    return 0


def _greeting(url: str, apis: Sequence[str]) -> str:
    lines = [_GREETING]
    if "2018" in apis:
        lines.append(_EXPORT_2018)
    todays = [name for name in apis if name != "2018"]
    if todays:
        lines.append(_EXPORT_TODAY)
    text = "\n".join([*lines, "    mwa_client --csv=jobs.csv --dir=trial\n"])
    return text.format(
        url=url, user=Options.user, password=Options.password, key=Options.api_key, names=", ".join(todays)
    )


def parse_fault(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options in ``NAME:option=value,option=value``.

    Values are JSON where they can be, and text otherwise.

    Examples
    --------
    >>> parse_fault("cut_product:after=[1000,5000],reset=true,path=/api/*")
    ('cut_product', {'after': [1000, 5000], 'reset': True, 'path': '/api/*'})
    """
    name, _, rest = text.partition(":")
    options = {}
    # A comma parts two options where the next one begins; others belong to a value.
    for pair in re.split(r",(?=\w+=)", rest) if rest else []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{text}: an option looks like name=value, not {pair}")
        options[key] = _parse_value(value)
    return name, options


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _sandbox(options: argparse.Namespace) -> Sandbox:
    sandbox = Sandbox(
        apis=options.apis,
        scratch_folder=options.scratch_folder,
        job_limit=options.job_limit,
        seconds_per_state=1 / options.speed,
        rate=options.rate,
        product_size=None if options.size is None else lambda job: options.size,
        state_file=options.state,
        log_file=options.log,
        port=options.port,
    )
    for text in options.fault:
        name, fault_options = parse_fault(text)
        sandbox.faults.add(name, **fault_options)
    return sandbox


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mwa_client.sandbox",
        description="A practice service with the same interfaces, without account or network.",
        epilog=_faults_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port",
        type=option_values.port,
        default=0,
        metavar="N",
        help="listen on this port (default: a free one)",
    )
    parser.add_argument(
        "--speed",
        type=option_values.speed,
        default=1.0,
        metavar="X",
        help="job states per second (default: 1); inf: ready at once",
    )
    parser.add_argument(
        "--rate", type=option_values.rate, metavar="B", help="bytes per second for each product"
    )
    parser.add_argument("--size", type=option_values.size, metavar="B", help="bytes in each product")
    parser.add_argument(
        "--apis",
        type=option_values.names,
        default=APIS,
        metavar="A,B",
        help=f"interfaces to offer ({','.join(APIS)})",
    )
    parser.add_argument(
        "--scratch-folder",
        type=option_values.folder,
        metavar="DIR",
        help="write deliveries to scratch and dug here",
    )
    parser.add_argument(
        "--job-limit",
        type=option_values.how_many,
        metavar="N",
        help="accept at most this many unfinished jobs at a time",
    )
    parser.add_argument("--state", type=option_values.file, metavar="FILE", help="remember jobs in this file")
    parser.add_argument(
        "--log", type=option_values.file, metavar="FILE", help="log requests to this file, as JSON lines"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="'NAME:OPTION=VALUE,...'",
        help="make this go wrong, for example 'cut_product:after=1000,times=2'; see below",
    )
    return parser


def _faults_help() -> str:
    lines = [f"Faults; each also takes {', '.join(COMMON_OPTIONS)}:"]
    for kind in KINDS.values():
        options = ", ".join(_option_help(parameter) for parameter in kind.options.values())
        lines += [f"  {kind.name}  {options}".rstrip(), f"      {kind.summary}"]
    return "\n".join(lines)


def _option_help(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return f"{parameter.name} (required)"
    return f"{parameter.name}={json.dumps(parameter.default)}"


if __name__ == "__main__":
    sys.exit(main())
