-- Silences, merged and reopened incidents, the metric around an incident, and the account of each day (design: Safety 4).

-- Changes take a new version, so that the responder sees with one look whether incidents that are held may go on.
create sequence silence_versions;
create table silences (
    id        uuid   primary key,
    kind      text   not null check (kind in ('silence', 'maintenance')),
    matchers  json   not null,
    starts_ms bigint not null,
    ends_ms   bigint not null,             -- an expired one ends when it was expired
    by_name   text   not null check (by_name <> ''),
    comment   text   not null,
    version   bigint not null default nextval('silence_versions'),
    check (starts_ms <= ends_ms)
);
create index silences_by_end on silences (ends_ms);

alter table operator_events drop constraint operator_events_kind_check;
alter table operator_events add constraint operator_events_kind_check
    check (kind in ('acknowledge', 'close', 'note', 'undelivered', 'merge', 'reopen'));
alter table operator_events add column into_incident bigint references incidents;
alter table operator_events add constraint operator_events_merge check ((kind = 'merge') = (into_incident is not null));

-- Fingerprints of alerts that an incident explains, or that were merged into it.
alter table incidents add column joined text[] not null default '{}';

-- What the alert's metric was around an incident, for the plot of its report.
create table incident_series (
    incident    bigint primary key references incidents,
    query       text   not null,
    threshold   double precision,
    gathered_ms bigint not null,
    complete    boolean not null,          -- nothing more will be asked
    error       text   not null default '',
    points      json   not null            -- [[time_ms, value], ...]
);

-- What each day came to, written once.
create index audit_by_time on audit (at_ms);
create table daily_accounts (
    day      date   primary key,
    at_ms    bigint not null,
    markdown text   not null
);
