-- Notices delivered to receivers (design: Safety 7). The responder writes notices; the notifier makes of each one row
-- for each receiver here, delivers it, and notes what came of it.

alter table notices add column seq bigint generated always as identity;
alter table notices add column command text;         -- the command that is held, or was decided about
alter table notices rename column sent_ms to routed_ms;
alter table notices drop constraint notices_kind_check;
alter table notices add constraint notices_kind_check
    check (kind in ('opened', 'notify', 'escalate', 'held', 'decided', 'acknowledged', 'resolved'));
drop index notices_unsent;
create index notices_unrouted on notices (seq) where routed_ms is null;
comment on column notices.routed_ms is 'When its deliveries were made; null: no notifier has seen it';

create table deliveries (
    seq        bigint  generated always as identity primary key,
    notice     text    not null references notices,
    incident   bigint  not null references incidents,
    receiver   text    not null,           -- a name of notify.receivers, or an e-mail address
    calls      boolean not null,           -- somebody is called, not only kept up to date
    state      text    not null default 'waiting'
               check (state in ('waiting', 'delivered', 'standing', 'given_up')),
    attempts   int     not null default 0, -- also whose result counts: only that of the newest attempt
    created_ms bigint  not null,
    next_ms    bigint  not null,           -- not before; a row that is being delivered lies ahead by its lease
    done_ms    bigint,
    last_error text    not null default '',
    receipt    json,
    unique (notice, receiver)
);
comment on column deliveries.state is 'standing: delivered, and to be repeated while the incident is open';
create index deliveries_due on deliveries (receiver, next_ms) where state in ('waiting', 'standing');
create index deliveries_in_order on deliveries (incident, receiver, seq);
create index deliveries_by_key on deliveries ((receipt ->> 'dedup_key')) where receipt is not null;

-- What arrived at /hooks, so that it counts once: signatures of Slack, event ids of PagerDuty.
create table hook_events (
    id    text   primary key,
    at_ms bigint not null
);
create index hook_events_by_age on hook_events (at_ms);

alter table operator_events drop constraint operator_events_kind_check;
alter table operator_events add constraint operator_events_kind_check
    check (kind in ('acknowledge', 'close', 'note', 'undelivered'));
