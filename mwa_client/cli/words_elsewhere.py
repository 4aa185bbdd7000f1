"""What people type who know other programs: wget, curl, rsync, Slurm, make, the observatory's two clients.

Each table has what is answered, and the words (without their dashes) that it answers. A single letter counts
in its case: ``-P`` is wget's, ``-p`` giant-squid's.
"""

from __future__ import annotations

OPTIONS = {
    "--csv": "file input infile input-file job-file jobfile jobs-file jobs obs-file f i",
    "--dir": (
        "output output-dir outdir out directory directory-prefix destination dest download-dir path o O P"
    ),
    "--unpack": "extract untar unzip decompress",
    "--obs-ids": "obslist obs-list observations ids",
    "--then": "exec execute hook post after run on-complete post-process postprocess callback command",
    "--check": "dry-run dryrun dry validate verify test no-submit plan lint n",
    "--sandbox": "practice practise demo mock simulate",
    "--submit-only": "no-wait nowait only-submit",
    "--once": "cron single-pass one-pass no-poll",
    "--part": "array shard chunk ntasks nodes node task rank split-jobs",
    "--list-only": "ls show-jobs L A",
    "--download-only": "wait fetch get job-id jobid jobids",
    "--cancel": "delete remove kill scancel",
    "--state": "filter",
    "--report": "html web page",
    "--json": "format machine-readable jsonl",
    "--parallel": (
        "threads workers concurrency concurrent concurrent-downloads num-threads num-workers processes nproc "
        "jobs-in-parallel max-concurrent-downloads t N"
    ),
    "--connections": "streams split max-connection-per-server connections-per-server segments",
    "--poll": "interval poll-interval poll-time refresh sleep period polling",
    "--give-up-after": (
        "timeout time-out max-time max-wait wait-time walltime time time-limit connect-timeout T m"
    ),
    "--allow-resubmit": "force resubmit retry-failed rerun",
    "--error-file": "errfile errors error-log",
    "--verbose": "debug log-level loglevel trace verbosity",
    "--quiet": "silent no-progress no-progress-bar noprogress no-progress-meter",
    "--api": "api-version interface v1 v2 2018",
    "--version": "V",
    "--help": "usage man H h ? help-all",
}
"""The option that is meant."""

IS_NO_OPTION = {
    "run the same command again, and it picks up where it left off": (
        "resume continue continue-at partial append restart no-clobber nc skip-existing ignore-existing "
        "update timestamping inplace append-verify"
    ),
    "lost connections and outages are always retried; --give-up-after limits the time": (
        "retry retries tries max-retries max-tries retry-delay retry-max-time retry-wait retry-connrefused "
        "waitretry"
    ),
    "each product is always verified by its SHA-1": (
        "hash checksum sha1 sha1sum sha md5 md5sum check-integrity integrity no-hash no-checksum"
    ),
    "your own files are never replaced; move away what is to be made anew": "overwrite clobber replace",
    "products stay tars unless --unpack is given": "keep keep-tar skip-tar no-unpack tar",
    "colours are only used on a terminal; set NO_COLOR=1 to have none": (
        "color colour no-color no-colour nocolor nocolour colors colours"
    ),
    "progress bars are shown on a terminal; -q hides them": "progress progress-bar bar show-progress",
    "the rate cannot be limited; --connections=1 --parallel=1 leaves the most room for others": (
        "limit-rate bwlimit max-speed max-rate rate rate-limit speed-limit max-download-limit bandwidth"
    ),
    "set SSL_VERIFY to the .pem file of the authorities to trust, or to 0": (
        "insecure no-check-certificate no-verify no-verify-ssl verify-ssl ssl-verify cacert ca-certificate "
        "ca-bundle k"
    ),
    "set HTTPS_PROXY, as for curl and pip": "proxy http-proxy https-proxy all-proxy no-proxy noproxy x",
    "MWA_ASVO_API_KEY holds your key, or the file ~/.mwa-asvo/key": (
        "key api-key apikey token user username password pass login account passwd auth netrc u"
    ),
    "set MWA_ASVO_HOST": "host url server hostname endpoint base-url",
    "set MWA_ASVO_PORT": "port",
    "to write a log file, put >mwa.log 2>&1 at the end of the command": (
        "log logfile log-file log-path logs"
    ),
    "run it with nohup, in tmux, or with --once from cron": "background daemon detach bg b",
    "that is an option of sbatch: put it into the job script, after #SBATCH": (
        "mem job-name partition dependency cpus-per-task mail-type mail-user exclusive qos"
    ),
    "there is no configuration file, only options and environment variables (README.md)": (
        "config config-file settings rcfile profile"
    ),
}
"""What to do, where there is not an option."""
ROW_KEYS = {"obsid": "obs_id", "o": "obs_id", "time-res": "avg_time_res", "freq-res": "avg_freq_res"}
"""Names for keys of a row that are not those of the table of keys."""
ANY_KEY = "parameters parameter params p row key-value output-format"
"""What stands for all keys of a row."""

COMMANDS = {
    "-l": "list ls jobs list-jobs listjobs queue squeue my-jobs",
    "-w JOB": "download wait get fetch dl",
    "-s FILE": "submit",
    "FILE": "run start resume continue restart",
    "FILE --check": "check validate verify dry-run plan",
    "FILE --unpack": "unpack extract untar",
    "--cancel JOB": "cancel scancel kill delete remove rm",
    "--sandbox FILE": "sandbox test demo practice practise try",
    "--status": "status progress state info show history",
    "--report=report.html": "report html",
    "--help": "help usage man",
    "--version": "version",
}
"""The command that a first word stands for: FILE is a job file, JOB job ids."""
SUBMISSIONS = {
    "submit-vis": "obs_id={}, job_type=d, download_type=vis",
    "submit-meta": "obs_id={}, job_type=d, download_type=vis_meta",
    "submit-conv": (
        "obs_id={}, job_type=c, output=uvfits, avg_time_res=0, avg_freq_res=80, flag_edge_width=80"
    ),
    "submit-volt": "obs_id={}, job_type=v, offset=0, duration=8",
    "submit-image": "obs_id={}, job_type=i",
    "submit-imaging": "obs_id={}, job_type=i",
    "submit-bf": "obs_id={}, job_type=b",
    "submit-beamformer": "obs_id={}, job_type=b",
}
"""The commands of giant-squid that submit, and those like them: the row that asks for the same."""
LOGIN = "login logout auth"
"""Words for which nothing need be done."""
