-- What people tell the responder about an incident (design: Safety 7, 9). The console and the command line write here;
-- the responder's tick reads, applies and marks it, so that one place alone changes an incident.

create table operator_events (
    seq      bigint generated always as identity primary key,
    incident bigint not null references incidents,
    kind     text   not null check (kind in ('acknowledge', 'close', 'note')),
    by_name  text   not null check (by_name <> ''),
    text     text   not null default '',
    at_ms    bigint not null,
    done_ms  bigint                        -- when the responder applied it
);
create index operator_events_undone on operator_events (seq) where done_ms is null;
create index operator_events_by_incident on operator_events (incident, seq);
comment on table operator_events is 'Acknowledgements, closings and notes by people; done_ms null: not yet applied';
