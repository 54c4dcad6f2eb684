"""Which targets a scrape job has now: those written in the settings, and those in files that may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import structlog

from connectors._targets import Job, Target, TargetGroup, from_url, read_groups, targets
from engine.edge.settings_sources import ScrapeJob

_log = structlog.get_logger(__name__)


def job_of(config: ScrapeJob) -> Job:
    """What the targets of a job have in common."""
    return Job(
        name=config.job,
        scheme=config.scheme,
        metrics_path=config.metrics_path,
        params=config.params,
        labels=config.labels,
        steps=[one.step() for one in config.relabel_configs],
    )


def static_targets(config: ScrapeJob) -> list[Target]:
    """The targets that the settings name, `url` first; what is no target is said in the log."""
    job = job_of(config)
    found = _resolved(job, [TargetGroup(one.targets, dict(one.labels)) for one in config.static_configs])
    if config.url:
        own, address = from_url(job, config.url)
        found = _resolved(own, [TargetGroup([address])]) + found
    return found


@dataclass
class _File:
    """A file as it was last read: a file that cannot be used any more keeps the groups it had."""

    stamp: tuple[int, int] = (-1, -1)
    groups: list[TargetGroup] = field(default_factory=list)


class TargetFiles:
    """The files of a job."""

    def __init__(self, config: ScrapeJob) -> None:
        self._config = config
        self._files: dict[str, _File] = {}

    @property
    def refresh_s(self) -> float:
        """How often to look."""
        return min(one.refresh_s for one in self._config.file_sd_configs)

    def read(self) -> list[Target] | None:
        """The targets in all files; None if nothing has changed. Blocks for as long as the disk takes."""
        patterns = [pattern for one in self._config.file_sd_configs for pattern in one.files]
        paths = sorted({path for pattern in patterns for path in glob(pattern)})
        gone = [path for path in self._files if path not in paths]
        for path in gone:
            del self._files[path]
        changed = [path for path in paths if self._look(path)]
        if not gone and not changed:
            return None
        return _resolved(job_of(self._config), [group for path in paths for group in self._files[path].groups])

    def _look(self, path: str) -> bool:
        """Read a file if it has changed since; whether it had and could be used."""
        known = self._files.setdefault(path, _File())
        try:
            status = Path(path).stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == known.stamp:
                return False
            known.stamp = stamp
            known.groups = read_groups(Path(path).read_text(encoding="utf-8"), path)
        except (OSError, ValueError) as error:
            _log.warning("discovery_failed", job=self._config.job, file=path, error=str(error))
            return False
        return True


def _resolved(job: Job, groups: Sequence[TargetGroup]) -> list[Target]:
    found, problems = targets(job, groups)
    for problem in problems:
        _log.warning("discovery_failed", job=job.name, file="", error=problem)
    return found
