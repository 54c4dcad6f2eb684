-- The audit chain, the global switches, approvals, and the executor's claims (design: Safety 2, 3, 4, 9).

create table audit (
    seq      bigint primary key,
    at_ms    bigint not null,
    actor    text   not null,
    kind     text   not null,
    incident bigint,
    command  text,
    data     json   not null,   -- json, not jsonb: the hash covers this very text
    previous text   not null,
    hash     text   not null
);
create index audit_incident on audit (incident, seq) where incident is not null;
create index audit_command on audit (command, seq) where command is not null;

-- The end of the chain, kept apart so that cutting rows off the end shows.
create table audit_head (
    singleton boolean primary key default true check (singleton),
    seq       bigint not null,
    hash      text not null
);
insert into audit_head (seq, hash) values (0, repeat('0', 64));

create function audit_refuse() returns trigger language plpgsql as $$
begin
    raise exception 'the audit is append-only: % on % refused', tg_op, tg_table_name;
end $$;

create trigger audit_append_only before update or delete on audit
    for each row execute function audit_refuse();
create trigger audit_no_truncate before truncate on audit
    for each statement execute function audit_refuse();
create trigger audit_head_kept before delete on audit_head
    for each row execute function audit_refuse();
create trigger audit_head_not_truncated before truncate on audit_head
    for each statement execute function audit_refuse();
create trigger audit_head_forward before update on audit_head
    for each row when (new.seq <> old.seq + 1) execute function audit_refuse();

create table control (
    singleton boolean primary key default true check (singleton),
    paused    boolean not null,
    by_name   text    not null,
    since_ms  bigint  not null
);
insert into control (paused, by_name, since_ms) values (false, '', 0);

create table approvals (
    command       text   primary key,
    incident      bigint not null,
    body          text   not null,
    body_sha256   text   not null,
    requested_ms  bigint not null,
    expires_ms    bigint not null,
    state         text   not null default 'waiting' check (state in ('waiting', 'approved', 'denied')),
    decided_by    text,
    decided_ms    bigint,
    check ((state = 'waiting') = (decided_by is null and decided_ms is null))
);
create index approvals_waiting on approvals (requested_ms) where state = 'waiting';

-- One row per command an executor has taken; never removed, so that an id runs at most once for ever. Whoever holds
-- the newest token may write the outcome: an executor that lost its lease is fenced off by it.
create sequence fencing_tokens;
create table claims (
    command      text   primary key,
    body         text   not null,
    incident     bigint not null,
    target       text   not null,
    executor     text   not null,
    token        bigint not null default nextval('fencing_tokens'),
    claimed_ms   bigint not null,
    lease_ms     bigint not null,     -- when the lease ends
    plan         json,
    outcome      json,
    published    boolean not null default false
);
-- Two executors never act on one target at a time.
create unique index claims_one_per_target on claims (target) where outcome is null;
create index claims_unpublished on claims (claimed_ms) where not published;
