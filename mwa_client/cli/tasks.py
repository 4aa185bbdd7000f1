"""What the command can be asked to do, each task from its settings to its exit status."""

from __future__ import annotations

from contextlib import closing

from mwa_client.cli.context import Show, TaskContext, open_context
from mwa_client.cli.ending import Ending, begin_error_file, lost_result, tell_of_the_end
from mwa_client.cli.output_files import check_output_files
from mwa_client.cli.settings import Settings, Task
from mwa_client.cli.streams import width_of_results
from mwa_client.errors import ExitStatus, LoginRefused, NotCancelled, ResultLost, ServiceRefused, ending_of

# The rest is imported where it is needed: no task must wait for what only another one uses.


def perform(settings: Settings, say: Show, show: Show) -> ExitStatus:
    """Do what the settings say.

    Parameters
    ----------
    settings : Settings
        What the user wants.
    say : callable
        Shows a line that is no result: a warning, a remark.
    show : callable
        Shows a result.

    Raises
    ------
    MwaClientError
        It cannot be done; the error knows its exit status.
    """
    ending = Ending()
    check_output_files(settings)
    try:
        status = _perform(settings, say, show, ending)
        if status is ExitStatus.COMPLETE and (lost := lost_result(settings, ending)) is not None:
            raise lost
    except BaseException as raised:
        tell_of_the_end(settings, ending, ending_of(raised), say)
        raise
    tell_of_the_end(settings, ending, ending.told, say)
    return status


def _perform(settings: Settings, say: Show, show: Show, ending: Ending) -> ExitStatus:
    if settings.task is Task.STATUS:
        from mwa_client.cli.looking import show_status

        return show_status(settings, say, show)
    if not settings.task.needs_rows:
        with open_context(settings, say, show, ending) as context:
            tasks = {Task.LIST: _list_jobs, Task.FETCH: _fetch, Task.WAIT: _fetch, Task.CANCEL: _cancel}
            return tasks[settings.task](context)
    return _perform_with_rows(settings, say, show, ending)


def _perform_with_rows(settings: Settings, say: Show, show: Show, ending: Ending) -> ExitStatus:
    from mwa_client.cli.checking import (
        RowSource,
        check_report,
        likely_apis,
        with_doubt,
        with_doubt_of_command,
    )
    from mwa_client.cli.sharing import share_out

    source = RowSource.of(settings)
    # The rows are checked before it is known which interface will answer: mistakes are reported at once.
    apis = likely_apis(settings)
    api, jobs = source.parse_for_one_of(apis)
    if settings.task is Task.CHECK:
        jobs = with_doubt(jobs, api, source, apis)
    jobs = with_doubt_of_command(jobs, settings)
    for warning in jobs.warnings:
        say(f"Warning: {warning}")
    part, jobs = share_out(jobs, settings, say)
    if settings.task is Task.CHECK:
        begin_error_file(settings, ending)
        show(*check_report(settings, jobs, api))
        return ExitStatus.COMPLETE
    from mwa_client.batch.events import RowName

    ending.rows = [RowName(job.line, job.obs_id) for job in jobs.jobs]
    with open_context(settings, say, show, ending, part) as context:
        from mwa_client.cli.batch_run import run_rows

        return run_rows(context, source, jobs, api)


def _fetch(context: TaskContext) -> ExitStatus:
    from mwa_client.cli.batch_run import fetch_jobs

    return fetch_jobs(context)


def _list_jobs(context: TaskContext) -> ExitStatus:
    """Show the user's jobs, or those of them that are wanted; one that is named must be there."""
    from mwa_client.asvo import open_session
    from mwa_client.asvo.job_filter import not_shown
    from mwa_client.display.listing import documents, table
    from mwa_client.timing import SystemClock

    wanted, now = context.settings.output.listed, SystemClock().now()
    with closing(open_session(*context.services)) as session:
        jobs = session.jobs(wanted.job_ids).values()
    chosen = [job for job in jobs if wanted.takes(job, now)]
    for remark in not_shown(wanted, jobs, session.api):
        context.say(remark)
    if context.settings.output.json:
        if chosen:
            context.show(*documents(chosen))
    elif chosen:
        context.show(*table(chosen, now, width_of_results()).split("\n"))
    else:
        none = (
            "Your only job does not match." if len(jobs) == 1 else f"None of your {len(jobs)} jobs matches."
        )
        context.show(none if jobs else "No jobs.")
    wanted.check_listed(jobs)
    return ExitStatus.COMPLETE


def _cancel(context: TaskContext) -> ExitStatus:
    """Cancel every named job that can be cancelled; then report those that could not."""
    from mwa_client.asvo import open_session

    refusals: list[str] = []
    cancelled = context.ending.cancelled
    with closing(open_session(*context.services)) as session:
        for target in context.settings.targets:
            try:
                session.cancel(int(target))
            except LoginRefused:
                raise
            except ServiceRefused as error:
                refusals.append(f"{target}: {' '.join(error.lines)}")
                continue
            cancelled.append(int(target))
            event = {"event": "cancelled", "job_id": int(target)}
            try:
                context.show(event if context.settings.output.json else f"Cancelled: Job id: {target}")
            except ResultLost as lost:  # The others are to be cancelled all the same.
                context.ending.lost = lost
    if refusals:
        raise NotCancelled(refusals)
    return ExitStatus.COMPLETE
