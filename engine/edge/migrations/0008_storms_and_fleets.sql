-- What fails at the same time, and what was acted on of a fleet (design: Safety 4).

-- What fails, when its newest alert began to fire by the responder's clock, the storm that it waits in (0: none), and
-- whether a person has taken it.
alter table incidents
    add column subject      text    not null default '',
    add column fired_ms     bigint  not null default 0,
    add column storm        bigint  not null default 0,
    add column acknowledged boolean not null default false;
update incidents set fired_ms = opened_ms;
create index incidents_fired on incidents (fired_ms);

-- The fleet that a plan belongs to, by name.
create index claims_of_fleet on claims ((plan -> 'fleet' ->> 'name'), claimed_ms)
    where plan -> 'fleet' ->> 'name' is not null;
